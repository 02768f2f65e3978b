"""Prepares the bundled sounds in ``gentext/datasets`` from the packages they come from.

    python -m experiments.sounds drums drums.npz
    python -m experiments.sounds notes notes.npz
    python -m experiments.sounds spoken digits_tts.npz

The files given hold all sounds in 256 mu-law levels, of one channel and one length; here they are
only split. The drums are those of Debian's ``sonic-pi-samples`` 3.2.2, of the kits Audiophob and
rumpf_kit_z01_h2 of ``hydrogen-drumkits`` 2017.09.19, and of ``fluid-soundfont-gm`` 3.1; the notes
are of the latter's programs 0 to 95, both rendered by ``fluidsynth``. The digits are spoken by
``espeak-ng`` 1.51, its voices en-us and cmn in 16 variants each, at random speeds and pitches, and
cut at 0.75 s, which 7 of 320 reach.

The contents come out the same each time; the bytes of the files may differ with the version of
xz, and then the digests in ``gentext/data/sources.py`` are to be renewed.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.datasets import Arrays, save_small
from gentext.data.files import BUNDLED
from gentext.data.sources import SOURCES

SPLITS = ("train", "validation", "test")
FAMILY = 8  # programs of MIDI
ALIKE = (0, 1, 44, 48)  # programs of the sound font that share samples with another of these

# Two of the kits that have every class. The kits of FluidR3 share samples with one another, all but
# the two that are to validate.
KITS = {
    **dict.fromkeys(("Audiophob", "rumpf_kit_z01_h2"), "test"),
    **dict.fromkeys(("FluidR3-kit40", "FluidR3-kit48"), "validation"),
}

# A woman's and a man's each; for test also one of another synthesiser, Klatt's, and a named one.
VOICES = {
    **dict.fromkeys(("Andy", "f4", "klatt3", "m4"), "test"),
    **dict.fromkeys(("f2", "m2"), "validation"),
}


def drums(sounds: Arrays) -> tuple[np.ndarray, list[str]]:
    """The kit and the licence of each sound, and its split, by kit."""
    return columns(sounds, "kit", "lic"), [KITS.get(kit, "train") for kit in sounds["kit"].tolist()]


def notes(sounds: Arrays) -> tuple[np.ndarray, list[str]]:
    """The program and the pitch of each sound, and its split, by program.

    Of the 8 programs of each family, in random order with seed 0, those with the first 4 notes or
    more are held out for test, those with the next 2 or more to validate.
    """
    programs, split = sounds["program"].tolist(), {}
    generator = np.random.default_rng(0)
    for family in np.unique(sounds["y"]).tolist():
        order = generator.permutation(np.arange(FAMILY * family, FAMILY * (family + 1))).tolist()
        order = [program for program in order if program not in ALIKE]
        for held_out, wanted in (("test", 4), ("validation", 2)):
            count = 0
            while count < wanted:
                program = order.pop(0)
                split[program] = held_out
                count += programs.count(program)
    return columns(sounds, "program", "pitch"), [split.get(p, "train") for p in programs]


def spoken(sounds: Arrays) -> tuple[np.ndarray, list[str]]:
    """The language and the voice of each sound, and its split, by voice, in both languages."""
    voices = sounds["voice"]
    language = np.array(["en", "zh"])[sounds["lang"]]
    return np.stack([language, voices], 1), [VOICES.get(v, "train") for v in voices.tolist()]


def columns(sounds: Arrays, *names: str) -> np.ndarray:
    return np.stack([sounds[name] for name in names], axis=1)


KINDS: dict[str, Callable[[Arrays], Any]] = {"drums": drums, "notes": notes, "spoken": spoken}


def split(name: str, source: str) -> Arrays:
    """The sounds of a file, their classes and notes, in random order with seed 0, by split."""
    with np.load(source, allow_pickle=False) as read:
        count = len(read["x"])
        order = np.random.default_rng(0).permutation(count)
        sounds = {k: array[order] for k, array in read.items() if array.shape[:1] == (count,)}
    noted, splits = KINDS[name](sounds)
    arrays: Arrays = {}
    for part in SPLITS:
        kept = np.array(splits) == part
        arrays |= {f"x_{part}": sounds["x"][kept], f"y_{part}": sounds["y"][kept]}
        arrays[f"notes_{part}"] = noted[kept]
    return arrays


def main() -> None:
    parser = argparse.ArgumentParser(description="Prepare one bundled set of sounds.")
    parser.add_argument("name", choices=KINDS)
    parser.add_argument("source", help="file with the sounds of all splits")
    arguments = parser.parse_args()
    target = BUNDLED / SOURCES[arguments.name].file
    save_small(target, split(arguments.name, arguments.source))
    print(hashlib.sha256(target.read_bytes()).hexdigest(), target)


if __name__ == "__main__":
    main()
