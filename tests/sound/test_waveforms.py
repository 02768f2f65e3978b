"""Files against Python's own reader of WAV and closed forms of tones."""

from __future__ import annotations

import math
import os
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from gentext.sound.waveforms import read, resample, write

RATE = 8000


def tone(hertz: float, n: int = 4000, rate: int = RATE, size: float = 0.5) -> Tensor:
    return size * torch.sin(2 * math.pi * hertz / rate * torch.arange(n, dtype=torch.float64))


def cut(path: Path, bytes_left: int) -> Path:
    path.write_bytes(path.read_bytes()[:bytes_left])
    return path


def test_a_wav_has_the_nearest_16_bit_numbers(tmp_path: Path) -> None:
    x = torch.cat([tone(440), torch.tensor([-1.0, 1.0, 0.0, 0.4 / 32768, 0.6 / 32768])])
    path = write(tmp_path / "a.WAV", x, RATE)
    with wave.open(str(path)) as file:
        about = (file.getnchannels(), file.getsampwidth(), file.getframerate())
        whole = np.frombuffer(file.readframes(9999), "<i2")
    assert about == (1, 2, RATE)
    expected = [max(-32768, min(32767, round(float(v) * 32768))) for v in x]
    assert whole.tolist() == expected
    samples, rate = read(path)
    assert (samples.dtype, rate) == (torch.float32, RATE)
    assert samples.tolist() == [v / 32768 for v in expected]


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_numbers_of_16_bits_come_back_as_they_were(tmp_path: Path, ending: str) -> None:
    x = torch.randint(-32768, 32768, (200_000,)) / 32768
    samples, rate = read(write(tmp_path / f"a.{ending}", x, 44_100))
    assert rate == 44_100
    assert torch.equal(samples, x)


def test_compressed_sound_is_nearly_the_same_at_any_length(tmp_path: Path) -> None:
    x = tone(300, n=3_000_000, rate=44_100)
    samples, rate = read(write(tmp_path / "a.ogg", x, 44_100))
    assert (len(samples), rate) == (len(x), 44_100)
    assert (samples.double() - x)[1000:-1000].abs().max() < 0.02


@pytest.mark.parametrize(
    ("kind", "close"),
    [("PCM_U8", 2**-8), ("PCM_16", 2**-16), ("PCM_24", 2**-24), ("PCM_32", 2**-24),
     ("FLOAT", 2**-25), ("DOUBLE", 2**-25)],
)  # fmt: skip
def test_every_kind_of_wav_is_read_and_channels_are_averaged(
    tmp_path: Path, kind: str, close: float
) -> None:
    left, right = tone(440).numpy(), tone(550, size=0.25).numpy()
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), RATE, subtype=kind)
    samples, rate = read(tmp_path / "a.wav")
    assert (samples.shape, samples.dtype, rate) == ((4000,), torch.float32, RATE)
    assert np.abs(samples.numpy() - (left + right) / 2).max() <= 2.1 * close


def test_mp3_is_read(tmp_path: Path) -> None:
    x = tone(440, n=16_000, rate=16_000)
    soundfile.write(tmp_path / "a.mp3", x.numpy(), 16_000)
    samples, rate = read(tmp_path / "a.mp3")
    assert (len(samples), rate) == (16_000, 16_000)
    assert (samples.double() - x)[2000:-2000].abs().max() < 0.02


def test_reading_resamples(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", tone(440, n=16_000, rate=16_000), 16_000)
    samples, rate = read(path, rate=8000)
    assert (len(samples), rate) == (8000, 8000)
    assert (samples.double() - tone(440, n=8000))[200:-200].abs().max() < 1e-4
    assert torch.equal(read(path, rate=16_000)[0], read(path)[0])


@pytest.mark.parametrize("new", [16_000, 11_025, 4000])
def test_a_tone_is_the_same_at_another_rate(new: int) -> None:
    x = torch.stack([tone(440), tone(700, size=0.2)])[None]
    y = resample(x, RATE, new)
    m = math.floor(4000 * new / RATE + 0.5)
    assert (y.shape, y.dtype) == ((1, 2, m), torch.float64)
    assert (y[0, 0] - tone(440, m, new))[300:-300].abs().max() < 1e-5
    assert (y[0, 1] - tone(700, m, new, 0.2))[300:-300].abs().max() < 1e-5


def test_above_half_of_the_lower_rate_nothing_is_left() -> None:
    assert resample(tone(3000), RATE, 4000)[300:-300].abs().max() < 1e-5
    assert resample(tone(440).half(), RATE, 4000).dtype == torch.float32
    assert torch.equal(resample(tone(440), RATE, RATE), tone(440))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (torch.zeros(5, 2), r"\(5, 2\); give one channel"),
        (torch.zeros(2, 5), "the mean over the channels"),
        (torch.zeros(0), r"\(0,\)"),
        (torch.tensor(0.0), "one channel"),
        (torch.zeros(5).int(), "int32"),
        (torch.tensor([0.5, -1.01]), r"from -1.01 to 0.5.*\[-1, 1\]"),
        (torch.tensor([0.5, math.nan]), r"nan.*\[-1, 1\]"),
    ],
)
def test_samples_that_do_not_fit_leave_no_file(tmp_path: Path, samples, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "a.wav", samples, RATE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "rate", "message"),
    [
        ("a.mp3", RATE, "unknown ending of a sound file '.mp3'.*.wav, .flac, .ogg"),
        ("a", RATE, "unknown ending"),
        ("a.wav", 0, "rate must be a whole number, at least 1"),
        ("a.ogg", 192_001, "rate must be at most 192000"),
        ("none/a.wav", RATE, "cannot be written"),
    ],
)
def test_other_endings_rates_and_places_are_refused(tmp_path: Path, name, rate, message) -> None:
    with pytest.raises(ValueError, match=message):
        write(tmp_path / name, tone(440), rate)
    assert list(tmp_path.iterdir()) == []


def test_where_writing_fails_the_older_file_is_left(tmp_path: Path, monkeypatch) -> None:
    path = write(tmp_path / "a.wav", tone(440), RATE)
    before = path.read_bytes()

    def full(part: Path, content: bytes) -> int:
        part.open("wb").close()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ValueError, match="No space left"):
        write(path, tone(550), RATE)
    assert [file.name for file in tmp_path.iterdir()] == ["a.wav"]
    assert path.read_bytes() == before


def test_what_is_no_sound_is_refused(tmp_path: Path) -> None:
    for name, content in {
        "empty.wav": b"",
        "text.wav": b"spring dawn " * 99,
        "x.raw": b"12",
    }.items():
        (tmp_path / name).write_bytes(content)
    soundfile.write(tmp_path / "none.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "nan.wav", np.array([0, math.nan]), RATE, subtype="FLOAT")
    for name, message in {
        "": "is a folder",
        "missing.wav": "there is no file",
        "empty.wav": "is empty",
        "text.wav": "cannot be read as sound",
        "x.raw": "cannot be read as sound",
        "none.wav": "has no samples",
        "nan.wav": "NaN or infinite",
    }.items():
        with pytest.raises(ValueError, match=message):
            read(tmp_path / name)
    with pytest.raises(ValueError, match="rate must be"):
        read(tmp_path / "missing.wav", rate=0)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("left", [0.5, 0.01, 0.999])
def test_a_file_that_was_cut_is_broken(tmp_path: Path, ending: str, left: float) -> None:
    path = write(tmp_path / f"a.{ending}", tone(440), RATE)
    cut(path, int(left * path.stat().st_size))
    with pytest.raises(ValueError, match=r"its end is missing|cannot be read|has no samples"):
        read(path)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_wav_whose_writer_did_not_know_its_length_is_read(tmp_path: Path, size: int) -> None:
    path = write(tmp_path / "a.wav", tone(440), RATE)
    whole, expected = path.read_bytes(), read(path)[0]
    assert whole[36:40] == b"data"
    path.write_bytes(whole[:40] + struct.pack("<I", size) + whole[44:])
    assert torch.equal(read(path)[0], expected)


def test_what_cannot_be_resampled_is_refused() -> None:
    for call, message in [
        (lambda: resample(torch.zeros(4), 192_000, 1), "at least 0.5"),
        (lambda: resample(torch.zeros(40_000), 1, 192_000), "at most 1e[+]09"),
        (lambda: resample(torch.zeros(4), RATE, 0), "new_rate must be"),
        (lambda: resample(torch.zeros(2, 0), RATE, 4000), "1 at least"),
        (lambda: resample(torch.zeros(4).int(), RATE, 4000), "int32"),
        (lambda: resample(torch.zeros(4) * math.nan, RATE, 4000), "NaN"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


def test_a_place_in_the_home_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(os.environ, "HOME", str(tmp_path))
    assert write("~/a.wav", tone(440), RATE) == tmp_path / "a.wav"
    assert len(read("~/a.wav")[0]) == 4000
