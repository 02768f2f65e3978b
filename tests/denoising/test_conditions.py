"""Labels and prompts: what is hidden, what is never read, and that networks do read the rest."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gentext import checkpoint
from gentext.core import Model, if_given
from gentext.denoising.conditions import (
    DROPPED,
    Condition,
    Conditional,
    Conditions,
    TextEncoder,
    conditions_of,
    time_embedding,
)
from gentext.denoising.diffusion import Diffusion
from gentext.denoising.dit import DiT
from gentext.denoising.schedule import Schedule
from gentext.denoising.unet import UNet, modulate

pytestmark = pytest.mark.usefixtures("float64")

READS: dict[str, Any] = {"vocab_size": 9, "context": 6}
NETS = {
    "dit": lambda: DiT(shape=(1, 8, 8), patch=4, width=16, layers=2, heads=2, **READS),
    "unet": lambda: UNet(shape=(1, 8, 8), channels=8, multipliers=(1, 2), **READS),
}


@pytest.fixture(params=NETS)
def net(request: pytest.FixtureRequest) -> nn.Module:
    """A network that reads prompts, with random weights where it began with 0."""
    made = NETS[request.param]()
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(0.3 * torch.randn_like(p))
    return made.eval()


def inputs(n: int) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 1, 8, 8), torch.rand(n) * 1000


# Times


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.float64])
def test_the_time_embedding_is_waves_one_by_one(dtype: torch.dtype) -> None:
    t, width = torch.tensor([0, 1, 3, 999], dtype=dtype), 10
    made = time_embedding(t, width)
    precise = dtype == torch.float64
    assert made.dtype == (torch.float64 if precise else torch.float32)
    for n, time in enumerate(t.tolist()):
        for i in range(width // 2):
            angle = time * 10 ** (-4 * i / (width // 2 - 1))
            expected = made.new_tensor([math.sin(angle), math.cos(angle)])
            tolerance = 1e-10 if precise else 1e-4
            torch.testing.assert_close(made[n, i::5], expected, atol=tolerance, rtol=0)


def test_half_precision_times_are_embedded_in_float32() -> None:
    t = torch.tensor([0.0, 8.0, 512.0])
    assert time_embedding(t.bfloat16(), 6).equal(time_embedding(t.float(), 6))


def test_the_condition_by_its_formula() -> None:
    condition = Condition(6, 10, [3, 4], classes=2)
    t, y = torch.rand(5) * 1000, torch.tensor([0, 1, 2, 1, 0])
    h = condition.time[0](time_embedding(t, 6))
    h = condition.time[2](h * torch.sigmoid(h)) + condition.label.weight[y]
    expected = condition.layers(h * torch.sigmoid(h))
    first, second = condition(t, y)
    torch.testing.assert_close(first, expected[:, :6])
    torch.testing.assert_close(second, expected[:, 6:])
    x = torch.randn(5, 3, 2, 2)
    for n in range(5):
        for c in range(3):
            scaled = (1 + first[n, c]) * x[n, c] + first[n, 3 + c]
            torch.testing.assert_close(modulate(x, first)[n, c], scaled)


def test_times_are_embedded_in_pairs_of_waves() -> None:
    with pytest.raises(ValueError, match=r"width=7.*even"):
        time_embedding(torch.zeros(3), 7)


# Prompts


def test_padding_is_never_read(net: nn.Module) -> None:
    """However much of it there is, and whatever the vector is that stands for it."""
    (x, t), y = inputs(2), torch.tensor([[3, 1, 2], [5, 0, 0]])
    before = net(x, t, y)
    longer = torch.cat([y, torch.zeros(2, 3, dtype=torch.long)], 1)
    torch.testing.assert_close(net(x, t, longer), before)
    torch.testing.assert_close(net(x[1:], t[1:], y[1:, :1]), before[1:])
    with torch.no_grad():
        net.condition.text.tokens.weight[0] = 1e3
    torch.testing.assert_close(net(x, t, longer), before)


def test_the_empty_prompt_is_no_prompt_and_gives_numbers(net: nn.Module) -> None:
    x, t = inputs(2)
    none = net(x, t)
    assert none.isfinite().all()
    for length in (0, 1, 6):
        empty = torch.zeros(2, length, dtype=torch.long)
        torch.testing.assert_close(net(x, t, empty), none)
    x.requires_grad_()
    net(x, t, torch.zeros(2, 6, dtype=torch.long)).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_every_token_and_its_place_matter(net: nn.Module) -> None:
    (x, t), y = inputs(1), torch.tensor([[3, 1, 2, 8]])
    before = net(x, t, y)
    for place in range(4):
        changed = y.clone()
        changed[0, place] = 7
        assert not net(x, t, changed).allclose(before, rtol=1e-4)
    assert not net(x, t, y.flip(1)).allclose(before, rtol=1e-4)


def test_places_of_the_image_read_the_tokens_themselves(net: nn.Module) -> None:
    """Even where the prompt as a whole is silenced."""
    (x, t), y = inputs(1), torch.tensor([[3, 1]])

    def silent(_: nn.Module, __: Any, out: Any) -> Any:
        memory = out.memory.clone()
        memory[:, 0] = 0
        return out._replace(memory=memory)

    net.condition.text.register_forward_hook(silent)
    assert not net(x, t, y).allclose(net(x, t, torch.tensor([[3, 2]])), rtol=1e-4)


def test_the_text_encoder_by_its_formula() -> None:
    encoder = TextEncoder(9, 6, 16, heads=2)
    y = torch.tensor([[3, 0, 2], [0, 0, 0]])
    words = encoder.tokens.weight[y] + encoder.positions.weight[:3]
    x = torch.cat([encoder.start.expand(2, 1, 16), words], 1)
    shown = torch.tensor([[True, True, False, True], [True, False, False, False]])
    for n in range(2):
        h = x[n, shown[n]][None]  # the places that are there, and no mask
        for block in encoder.blocks:
            h = block(h)
        memory, mask = encoder(y)
        assert mask[n, 0, 0].equal(shown[n])
        torch.testing.assert_close(memory[n, shown[n]], encoder.norm(h)[0])


def test_the_prompt_as_a_whole_is_added_to_the_time(net: nn.Module) -> None:
    condition, t, y = net.condition, torch.rand(2) * 1000, torch.tensor([[3, 1], [0, 0]])
    features, text = condition.features(t, y)
    time = condition.time(time_embedding(t, condition.width))
    torch.testing.assert_close(features, time + condition.text(y).memory[:, 0])
    torch.testing.assert_close(text.memory, condition.text(y).memory)


# Hidden and refused


class Note(nn.Module):
    """A network that notes what it was shown, and predicts the sum of the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        self.seen.append(y)
        return (y.sum(1) / 10.0)[:, None].expand_as(x_t)


def noting() -> Diffusion:
    return Diffusion(
        Note(), Schedule.linear(20), shape=(2,), levels=None, predict="x0", vocab_size=9
    )


def test_some_prompts_are_hidden_as_a_whole_in_training_and_none_later() -> None:
    model, y = noting(), torch.randint(1, 9, (20_000, 3))
    model.train().loss(torch.randn(20_000, 2), y)
    hidden = (model.net.seen[-1] == 0).all(1)
    assert float(hidden.double().mean()) == pytest.approx(DROPPED, abs=0.01)
    assert model.net.seen[-1][~hidden].equal(y[~hidden])
    model.eval().loss(torch.randn(20_000, 2), y)
    assert model.net.seen[-1].equal(y)
    model.loss(torch.randn(4, 2))
    assert model.net.seen[-1].equal(torch.zeros(4, 1, dtype=torch.long))


def test_prompts_are_shown_and_guidance_goes_past_them_from_the_empty_one() -> None:
    model, y = noting().eval(), torch.tensor([[1, 2], [4, 0]])
    torch.testing.assert_close(model.sample(2, y)[:, 0], torch.tensor([0.3, 0.4]))
    assert (model.sample(2) == 0).all()
    guided = model.sample(2, y, guidance=0.5)[:, 0]  # 1.5 of the sum less 0.5 of 0
    torch.testing.assert_close(guided, torch.tensor([0.45, 0.6]))


@pytest.mark.parametrize("name", NETS)
def test_a_diffusion_of_prompts_trains_draws_bounds_and_is_kept(name: str, tmp_path: Any) -> None:
    options = {"width": 16, "layers": 1} if name == "dit" else {"channels": 8}
    model: Model = Diffusion(name, shape=(1, 4, 4), levels=17, steps=20, **READS, **options)
    x, y = torch.randint(17, (6, 1, 4, 4)) / 16, torch.randint(9, (6, 4))
    model.check(x, y)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        model(x, y).backward()
        optimizer.step()
    model.eval()
    assert not model.elbo(x, y, terms=2).equal(model.elbo(x, terms=2))
    assert model.sample(2, y[:2], steps=3, guidance=1.0).shape == (2, 1, 4, 4)
    checkpoint.save(tmp_path / "model.safetensors", model)
    again = checkpoint.load(tmp_path / "model.safetensors")
    t = torch.tensor([3, 5])
    assert again.denoise(x[:2], t, y[:2]).equal(model.denoise(x[:2], t, y[:2]))


def test_large_batches_of_prompts_go_through_the_network_in_parts() -> None:
    model, y = noting().eval(), torch.randint(9, (600, 3))
    x, t = torch.randn(600, 2), torch.randint(20, (600,))
    with torch.no_grad():
        parts = model.denoise(x, t, y)
    assert [len(seen) for seen in model.net.seen] == [256, 256, 88]
    torch.testing.assert_close(parts, model.denoise(x, t, y))


def test_bad_prompts_are_refused() -> None:
    model, x = noting(), torch.randn(3, 2)
    good = torch.tensor([[1, 2], [3, 0], [0, 0]])
    model.check(x, good)
    for y, message in (
        (good.double(), r"prompts of torch\.float64.*integers"),
        (good[:2], r"shape \(2, 2\), but 3 examples need 3 rows"),
        (good[:, 0], r"shape \(3,\), but 3 examples need 3 rows"),
        (good + 7, r"token 10.*reads 9 tokens.*0 to 8"),
        (good - 1, r"token -1.*0 to 8"),
    ):
        with pytest.raises(ValueError, match=message):
            model.check(x, y)
    with pytest.raises(ValueError, match=r"token 9.*0 to 8"):
        model.sample(1, torch.tensor([[9]]))
    with pytest.raises(ValueError, match=r"guidance=2.*vocab_size"):
        model.sample(2, guidance=2.0)
    with pytest.raises(ValueError, match=r"'mlp' reads no text: choose unet or dit"):
        Diffusion("mlp", shape=(2,), levels=None, vocab_size=9)
    with pytest.raises(ValueError, match=r"classes=2 and vocab_size=9.*one of the two"):
        Diffusion("unet", shape=(1, 8, 8), classes=2, **READS)
    with pytest.raises(ValueError, match=r"vocab_size=-1"):
        Conditions(vocab_size=-1)
    with pytest.raises(ValueError, match=r"context=0.*set context="):
        Diffusion("unet", shape=(1, 8, 8), vocab_size=9)


# What models may be told


def test_what_stands_for_nothing() -> None:
    device, y = torch.device("cpu"), torch.tensor([2, 0, 1])
    labels, prompts, none = Conditions(classes=3), Conditions(vocab_size=9), Conditions()
    assert [bool(c) for c in (labels, prompts, none)] == [True, True, False]
    assert labels.nothing(2, device).tolist() == [3, 3]
    assert prompts.nothing(2, device).tolist() == [[0], [0]]
    assert none.shown(None, 2, device, hide=True) == ()
    (shown,) = labels.shown(y, 3, device, hide=False)
    assert shown is y
    assert labels.shown(None, 3, device, hide=True)[0].tolist() == [3, 3, 3]
    assert (if_given(y), if_given(None)) == ((y,), ())


def test_a_share_is_hidden_whole_rows_at_a_time_and_the_rest_is_as_it_was() -> None:
    y, n = torch.randint(1, 9, (40_000, 3)), 40_000
    for conditions, given in ((Conditions(vocab_size=9), y), (Conditions(classes=9), y[:, 0])):
        hidden = conditions.partly_hidden(given)
        rows = (hidden == conditions.none).view(n, -1).all(1)
        assert abs(float(rows.double().mean()) - DROPPED) < 4 * math.sqrt(0.09 / n)
        assert hidden[~rows].equal(given[~rows])


def test_guidance_needs_something_that_guides() -> None:
    y = torch.tensor([0, 2])
    labels = Conditions(classes=3)
    labels.check_steering(y, 2.0)
    labels.check_steering(None, 0.0)
    Conditions().check_steering(None, 2.0, by_classifier=True)
    for conditions in (labels, Conditions(), Conditions(vocab_size=4)):
        with pytest.raises(ValueError, match=r"guidance=2.*labels or prompts y.*a classifier"):
            conditions.check_steering(None, 2.0)
    with pytest.raises(ValueError, match="without classes"):
        Conditions().check_steering(y, 0.0)
    with pytest.raises(ValueError, match=r"label 3.*0 to 2"):
        labels.check_steering(y + 1, 2.0)


def test_models_say_what_they_may_be_told() -> None:
    model = Diffusion("mlp", shape=(2,), levels=None, classes=3)
    assert isinstance(model, Conditional)
    assert conditions_of(model) == Conditions(classes=3)
    assert conditions_of(noting()) == Conditions(vocab_size=9)
    other = nn.Linear(1, 1)
    assert conditions_of(other) == Conditions()
    other.classes = 4
    assert conditions_of(other) == Conditions(classes=4)
    assert Conditions(classes=4).arguments() == {"classes": 4}
    assert Conditions(vocab_size=4).arguments() == {"classes": 0, "vocab_size": 4}


def test_there_is_a_row_for_each_draw() -> None:
    model = Diffusion("mlp", shape=(2,), levels=None, classes=3, hidden=8)
    with pytest.raises(ValueError, match=r"shape \(2,\), but 3 examples need 3"):
        model.sample(3, torch.tensor([0, 1]))
