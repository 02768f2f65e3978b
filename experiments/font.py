"""Makes the fonts of the figures: the characters that they need, of two free fonts.

    python experiments/font.py NotoSansCJK-Regular.ttc HanaMinB.ttf

Debian packs the sources as ``fonts-noto-cjk`` (Noto Sans CJK 2.004) and ``fonts-hanazono``
(HanaMinB of 2017-09-04). ``gentext-sans.otf`` keeps the characters that it has, and gets those of
the bundled texts, their notes and the names of emoji; ``gentext-rare.ttf`` has the few of them that
are missing in Noto. What neither has is left to DejaVu Sans, which matplotlib brings. Both are
renamed, as their licence asks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont

from gentext import data, text

FONTS = Path(__file__).parents[1] / "gentext" / "fonts"
SIMPLIFIED = 2  # the place of Noto Sans CJK SC in its collection


def characters() -> set[int]:
    """The code points of all that is bundled: texts, their notes, names of emoji and of classes."""

    def strings(found: Any) -> Iterator[str]:
        if isinstance(found, str):
            yield found
        for part in () if isinstance(found, str) else found or ():
            yield from strings(part)

    corpora = [text.load(name) for name in text.names()]
    sets = [data.load(name) for name in data.names()]
    found = [[*c.splits.values(), *c.notes.values()] for c in corpora]
    found += [[*d.notes.values(), d.classes, d.attributes] for d in sets]
    return {ord(c) for string in strings(found) for c in string if c != "\n"}


def subset(font: TTFont, kept: set[int], family: str, notice: dict[int, str], target: Path) -> None:
    """Write the ``kept`` characters of a font under another name, without its features."""
    options = Options(
        hinting=False, layout_features=[], name_IDs=[0, 8, 9, 13, 14], notdef_outline=True
    )
    options.drop_tables += ["BASE", "GDEF", "GPOS", "GSUB", "VORG", "vhea", "vmtx", "FFTM"]
    modified = font["head"].modified
    subsetter = Subsetter(options)
    subsetter.populate(unicodes=kept)
    subsetter.subset(font)
    short = family.replace(" ", "")
    names = {1: family, 2: "Regular", 4: family, 6: f"{short}-Regular", **notice}
    for number, written in names.items():
        font["name"].setName(written, number, 3, 1, 0x409)
    if "CFF " in font:
        inner = font["CFF "].cff
        inner.fontNames = [f"{short}-Regular"]
        inner[0].FullName = inner[0].FamilyName = family
    font["OS/2"].usWeightClass = 400  # regular; matplotlib looks for it
    font.recalcTimestamp = False  # the same bytes on every run
    font["head"].modified = modified
    font.save(target)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the fonts of the figures.")
    parser.add_argument("noto", help="NotoSansCJK-Regular.ttc")
    parser.add_argument("hanazono", help="HanaMinB.ttf")
    paths = parser.parse_args()
    present = set(TTFont(FONTS / "gentext-sans.otf").getBestCmap())
    noto, hanazono = TTFont(paths.noto, fontNumber=SIMPLIFIED), TTFont(paths.hanazono)
    wanted = present | characters()
    rare = (wanted - set(noto.getBestCmap())) & set(hanazono.getBestCmap())
    last = TTFont(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
    if missing := wanted - rare - set(noto.getBestCmap()) - set(last.getBestCmap()):
        sys.exit(f"no font has {''.join(map(chr, sorted(missing)))}")
    notice = {
        3: "2.004;gentext;gentextSans-Regular",
        5: "Version 2.004; subset for gentext",
        10: "A renamed subset of Noto Sans CJK SC 2.004: see OFL.txt beside it",
    }
    subset(noto, wanted - rare, "gentext Sans", notice, FONTS / "gentext-sans.otf")
    notice = {
        3: "2017;gentext;gentextRare-Regular",
        5: "Version 2017-09-04; subset for gentext",
        10: "A renamed subset of a font of the GlyphWiki Project: see OFL.txt beside it",
        0: "Copyright (c) 2011, GlyphWiki Project (kamichi@fonts.jp)",
        13: "This Font Software is licensed under the SIL Open Font License, Version 1.1",
        14: "http://scripts.sil.org/OFL",
    }
    subset(hanazono, rare, "gentext Rare", notice, FONTS / "gentext-rare.ttf")


if __name__ == "__main__":
    main()
