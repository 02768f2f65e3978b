"""What is noted of an example beside its class: the columns of the notes of a data set."""

from __future__ import annotations

from typing import NamedTuple

from gentext.core.signatures import keep_contract


class Emoji(NamedTuple):
    """What is noted of a picture: code points, style ("noto" or "fluent"), and names."""

    code: str
    style: str
    en: str
    zh: str


class Drum(NamedTuple):
    """What is noted of a drum hit: the kit it is of, and the licence of that."""

    kit: str
    licence: str


class Note(NamedTuple):
    """What is noted of a note: the program that played it and its pitch, numbers of MIDI."""

    program: int
    pitch: int


class Spoken(NamedTuple):
    """What is noted of a spoken digit: its language ("en" or "zh") and its voice."""

    language: str
    voice: str


keep_contract(globals())
