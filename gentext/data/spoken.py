"""Spoken digits, alone and in strings: what a recogniser of speech learns on.

A string is made of the recordings of one voice, with silence before, between and after them, so it
is known exactly what is said and where. Voices that are held out say nothing in training: the error
on them is that on a new speaker.

Notation: ``x`` waveforms (n, samples) in [−1, 1], zeros after their ends; ``lengths`` (n,) samples
of each; ``y`` its digits (n, most), −1 after the last; ``counts`` (n,) how many they are.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gentext.core import check_count, check_number, chosen
from gentext.core.signatures import keep_contract
from gentext.data.dataset import Dataset, load

SPLITS = ("train", "validation", "test")
LANGUAGES = {"en": ("en",), "zh": ("zh",), "both": ("en", "zh")}
HELD_OUT = {"test": 4, "validation": 8}  # one in so many, of a random split
SILENCE = 1e-4  # the two levels in the middle are below
MOST_STRINGS, MOST_DIGITS, LONGEST = 100_000, 100, 10.0  # of a call, of a string; s of a pause


class Recording(NamedTuple):
    """A digit said by a voice in a language, without the silence about it (samples,)."""

    language: str
    voice: str
    digit: int
    x: Tensor


class Said(NamedTuple):
    """What is noted of a waveform: its language and voice, and where each digit begins and ends."""

    language: str
    voice: str
    spans: tuple[tuple[int, int], ...]


Utterance = tuple[Tensor, tuple[int, ...], Said]  # a waveform without padding, its digits
Parts = dict[str, list[Recording]]


def single_digits(language: str = "both", *, split: str = "voice") -> Dataset:
    """Each recording alone: splits of (x, lengths, y, counts), where every count is 1.

    Arguments:
        language: "en", "zh" or "both".
        split: "voice" holds out voices; "random" a quarter of the recordings of each digit for
            test and an eighth to validate, whoever says it, so all voices may be known.

    Raises ValueError for other choices.
    """
    languages = chosen("language", language, LANGUAGES)
    change = chosen("split", split, {"voice": dict, "random": _at_random})
    dataset = load("spoken")
    parts = change(_recordings(dataset, languages))
    return _padded(
        dataset,
        {
            name: [
                (x, (digit,), Said(language, voice, ((0, len(x)),)))
                for language, voice, digit, x in recordings
            ]
            for name, recordings in parts.items()
        },
    )


def digit_strings(
    language: str = "both",
    *,
    train: int = 500,
    validation: int = 50,
    test: int = 100,
    digits: Sequence[int] = (3, 5),
    pause: Sequence[float | int] = (0.05, 0.25),
    seed: int = 0,
) -> Dataset:
    """Strings of random digits, each of one voice: splits of (x, lengths, y, counts), by voice.

    Arguments:
        language: "en", "zh" or "both", of which each string is in one.
        train, validation, test: how many strings, of some 0.1 MB each.
        digits: the fewest and the most of a string.
        pause: the shortest and the longest silence before, between and after digits, in seconds.

    Raises ValueError for another language, and for numbers that are none of these.
    """
    languages = chosen("language", language, LANGUAGES)
    for name, n in zip(SPLITS, (train, validation, test), strict=True):
        check_count(name, n)
        check_number(name, n, most=MOST_STRINGS)
    _check_range("digits", digits, check_count)
    check_number("the most digits", digits[1], most=MOST_DIGITS)
    _check_range("pause", pause, lambda name, s: check_number(name, s, least=0, most=LONGEST))
    check_count("seed", seed, 0)
    dataset = load("spoken")
    silence = [round(seconds * (dataset.rate or 1)) for seconds in pause]
    parts = _recordings(dataset, languages)
    made = {}
    for name, n in zip(SPLITS, (train, validation, test), strict=True):
        source = random.Random(f"{seed} {name}")
        voices = _by_voice(parts[name])
        made[name] = [_string(voices, digits, silence, source) for _ in range(n)]
    return _padded(dataset, made)


def _string(
    voices: list[list[Recording]],
    digits: Sequence[int],
    silence: Sequence[int],
    source: random.Random,
) -> Utterance:
    """Random digits of a random voice, one after the other, with pauses."""
    voice = source.choice(voices)
    said = [source.choice(voice) for _ in range(source.randint(int(digits[0]), int(digits[1])))]
    pieces, spans, end = [], [], 0
    for recording in said:
        start = end + source.randint(*silence)
        pieces += [torch.zeros(start - end), recording.x]
        end = start + len(recording.x)
        spans.append((start, end))
    pieces.append(torch.zeros(source.randint(*silence)))
    note = Said(voice[0].language, voice[0].voice, tuple(spans))
    return torch.cat(pieces), tuple(recording.digit for recording in said), note


def _recordings(dataset: Dataset, languages: Sequence[str]) -> Parts:
    """The recordings in some languages, by split; ValueError where a split has none."""
    parts: Parts = {}
    for name in SPLITS:
        rows = zip(*getattr(dataset, name), dataset.notes.get(name, ()), strict=False)
        parts[name] = [
            Recording(note.language, note.voice, int(y), _trimmed(x))
            for x, y, note in rows
            if note.language in languages
        ]
        if not parts[name]:
            raise ValueError(
                f"{dataset.source} has no {name} with notes in {' or '.join(languages)}; add "
                f"x_{name}, y_{name} and notes_{name}, columns of language and voice"
            )
    return parts


def _trimmed(x: Tensor) -> Tensor:
    """The waveform from its first to its last sample that is not silence."""
    (heard,) = (x.abs() > SILENCE).nonzero(as_tuple=True)
    return x[int(heard[0]) : int(heard[-1]) + 1] if len(heard) else x


def _at_random(parts: Parts) -> Parts:
    """The same recordings, shares of each digit in each language held out with seed 0."""
    every = [recording for name in SPLITS for recording in parts[name]]
    random.Random(0).shuffle(every)
    dealt: Parts = {name: [] for name in SPLITS}
    for kind in sorted({(recording.language, recording.digit) for recording in every}):
        alike = [recording for recording in every if (recording.language, recording.digit) == kind]
        rest = alike
        for name, one_in in HELD_OUT.items():
            count = len(alike) // one_in
            dealt[name] += rest[:count]
            rest = rest[count:]
        dealt["train"] += rest
    return dealt


def _by_voice(recordings: list[Recording]) -> list[list[Recording]]:
    """The recordings of each voice in each language."""
    voices: dict[tuple[str, str], list[Recording]] = {}
    for recording in recordings:
        voices.setdefault((recording.language, recording.voice), []).append(recording)
    return list(voices.values())


def _padded(dataset: Dataset, made: dict[str, list[Utterance]]) -> Dataset:
    """Utterances in rows of one length, with zeros after waveforms and −1 after digits."""
    every = [utterance for name in SPLITS for utterance in made[name]]
    x = pad_sequence([x for x, _, _ in every], batch_first=True)
    y = pad_sequence([torch.tensor(y) for _, y, _ in every], batch_first=True, padding_value=-1)
    lengths = torch.tensor([len(x) for x, _, _ in every])
    counts = torch.tensor([len(y) for _, y, _ in every])
    sizes = [len(made[name]) for name in SPLITS]
    columns = [column.split(sizes) for column in (x, lengths, y, counts)]
    splits: dict[str, Any] = dict(zip(SPLITS, zip(*columns, strict=True), strict=True))
    notes = {name: tuple(note for _, _, note in made[name]) for name in SPLITS}
    return replace(dataset, shape=tuple(x.shape[1:]), notes=notes, **splits)


def _check_range(
    name: str, bounds: Sequence[float | int], check: Callable[[str, float | int], None]
) -> None:
    """Raise ValueError unless ``bounds`` are two numbers that pass, the smaller one first."""
    if len(bounds) != 2:
        raise ValueError(f"got {name}={bounds!r}; give the least and the most")
    for bound in bounds:
        check(name, bound)
    if bounds[0] > bounds[1]:
        raise ValueError(f"got {name}={bounds!r}; give the smaller number first")


keep_contract(globals())
