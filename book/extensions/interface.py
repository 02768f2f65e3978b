"""Sphinx extension: Chinese for the words of the interface that the theme leaves in English.

Some of these words are missing from the theme's translation and others are not marked for
translation at all, so they are replaced in the finished pages: whole attributes and whole texts of
elements, never anything inside a program.
"""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

CHINESE = {
    "Back to top": "回到顶部",
    "Launch interactive content": "在线运行",
    "Link to this code": "此代码的链接",
    "Link to this definition": "此定义的链接",
    "Link to this equation": "此公式的链接",
    "Link to this heading": "此标题的链接",
    "Link to this image": "此图的链接",
    "Link to this table": "此表的链接",
    "Main": "主导航",
    "Open issue": "提出问题",
    "Page": "本页",
    "Repository": "代码仓库",
    "Skip to main content": "跳到正文",
    "Source repositories": "代码仓库",
    "Toggle hidden content": "展开或收起",
    "Toggle primary sidebar": "显示或隐藏目录",
    "Toggle secondary sidebar": "显示或隐藏本页目录",
    "Version warning": "版本提示",
    "light/dark": "浅色/深色",
    "next page": "下一页",
    "previous page": "上一页",
}
ENGLISH = "|".join(map(re.escape, CHINESE))
ATTRIBUTE = re.compile(rf'( (?:title|aria-label)=)"({ENGLISH})"')
TEXT = re.compile(rf"(?<=>)(\s*)({ENGLISH})(\s*)(?=<)")
PROGRAM = re.compile(r"(<pre\b.*?</pre>)", re.DOTALL)


def translated(page: str) -> str:
    """A finished page with the words of `CHINESE` in Chinese."""
    parts = PROGRAM.split(page)
    for number in range(0, len(parts), 2):
        part = ATTRIBUTE.sub(lambda m: f'{m[1]}"{CHINESE[m[2]]}"', parts[number])
        parts[number] = TEXT.sub(lambda m: m[1] + CHINESE[m[2]] + m[3], part)
    return "".join(parts)


def translate_pages(app: Sphinx, exception: Exception | None) -> None:
    """Translate every page of a finished Chinese build, and the program that unfolds solutions."""
    if exception is None and app.builder.format == "html" and app.config.language.startswith("zh"):
        folder = Path(app.outdir)
        for path in (*sorted(folder.rglob("*.html")), folder / "_static" / "togglebutton.js"):
            path.write_text(translated(path.read_text("utf-8")), "utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the translation to the end of the build."""
    app.connect("build-finished", translate_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
