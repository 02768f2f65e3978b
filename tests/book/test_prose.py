"""Numbers, punctuation and mathematics are found in prose where they are, and only there."""

from __future__ import annotations

import pytest

from book.tools import prose


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("about 1.5, 2.25 and .5", ["1.5", "2.25", "0.5"]),
        ("约0.5，占 12％与12.5 %", ["0.5", "12%", "12.5%"]),
        ("1,234.5 of 60000 in 3 steps", ["1234.5"]),
        ("GPT-3.5, PyTorch2.4, release 1.2.3, v0.1", []),
        ("1.9 million, 1.2 万, 2.5M parameters", []),
        ("$x = 0.5$ `0.5` <b style='width:0.5em'>", []),
        ("$1.5$, $93\\%$, $\\approx 0.25$", ["1.5", "93%", "0.25"]),
        ("[a](http://x.org/1.5) and http://x.org/2.5", []),
        ("```python\nx = 0.5\n```\n\n:::{figure} a.png\n:width: 50%\n:::", []),
        ("$$x = 0.5$$ (eq-a)\n\nthen 0.25.", ["0.25"]),
    ],
)
def test_numbers_of_prose(text: str, expected: list[str]) -> None:
    assert sorted(prose.numbers(text).elements()) == sorted(expected)


@pytest.mark.parametrize(
    ("code", "number", "confirmed"),
    [
        ("assert abs(x - 1.865) < 1e-3", "1.87", True),
        ("assert abs(x - 1.865) < 1e-3", "1.88", False),
        ("assert x == pytest.approx(1.5, abs=0.1)", "0.1", False),
        ("torch.testing.assert_close(x, torch.tensor([0.25]))", "0.25", True),
        ("want = {2: .0532}\nfor k, v in want.items():\n    assert near(x[k], v)", "0.0532", True),
        ("want = [0.5]\nassert near(x, want)", "0.5", True),
        ("lr = 0.5", "0.5", False),
        ("%time f()\nassert x > 0.93", "93%", True),
        ("assert x > 93", "93%", True),
        ("assert x > -1.5", "1.5", True),
        ("assert x < 4.04e-5", "4.04e-5", True),
    ],
)
def test_assertions_confirm_numbers(code: str, number: str, confirmed: bool) -> None:
    assert prose.confirmed(number, prose.asserted([code])) is confirmed


@pytest.mark.parametrize(
    "text",
    [
        "编码器 $q(z\\mid x)$（encoder）把 x 映到 z，见 [Kingma 等，2014](#cite-k)。",
        "调用 `f(中文, 中文)`；运行 `a.py`。\n\n1. 第一\n2. 第二：3:2",
        ":::{note} 标题\n:class: 提示, 注意\n**注意**：内容。\n:::",
        "| 名称 | 值 |\n|:---|---:|\n| 均值 | 1.5 |",
        "Kingma, D. P. 与 Welling, M. 的论文；(1) 求导；(a) 积分。",
        "![图](../a.png) [中文](vae.ipynb)与 <img alt='中文, 中文'>",
    ],
)
def test_sound_punctuation_passes(text: str) -> None:
    assert prose.half_width(text) == []


@pytest.mark.parametrize(
    "text", ["均值,方差", "如下:", "完。对吗?", "下界(ELBO)", "完成.", "模型 (中文)", '他说"好"']
)
def test_half_width_punctuation_is_found(text: str) -> None:
    assert prose.half_width(text)


def test_bold_type_that_is_shown_as_stars_is_found() -> None:
    assert prose.stars("**先看数字。**再看公式。")
    assert prose.stars("第二：** 这里**开始")
    assert not prose.stars("**先看数字。** 再看`f`的**公式**，以及`a**b`和 **$B=0$ 的情形**。")
    assert not prose.stars("```python\nx**2\n```")


def test_words_inside_mathematics_may_be_translated() -> None:
    assert prose.same_mathematics(r"x \text{ if } y", r"x \text{ 若 } y")
    assert not prose.same_mathematics(r"x \text{ if } y", r"x \text{ 若 } z")
    assert not prose.same_mathematics(r"\text{ELBO}=y", r"\text{KL}=y")
