"""Waveforms in files, and at other rates: ``samples, rate = read("hello.flac", rate=8000)``.

Notation: ``samples`` (n,), floating-point numbers in [−1, 1], of one channel; ``rate`` how many of
them a second has, in hertz.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Num
from torch import Tensor

from gentext.core import at_least_single, check_count, check_number, check_tensor, chosen, is_finite
from gentext.core.signatures import keep_contract
from gentext.figures.plot import write_whole

ENDINGS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG"}
MOST_RATE = 192_000  # hertz; at much higher rates libvorbis ends the program
STEPS = 32768  # of 16 bits, on each side of 0
BLOCK = 65536  # samples; libvorbis ends the program where it is given millions at once
UNKNOWN_SIZE = 0x7FFFF000  # and more: what programs write that do not know how long a WAV will be


def read(
    path: str | os.PathLike[str], *, rate: int | None = None
) -> tuple[Float[Tensor, "n"], int]:
    """The samples of a file in single precision, and their rate; of several channels the mean.

    The format is found in the file itself: WAV with 8 to 32 bits or floats, FLAC, OGG, MP3, and
    what else libsndfile reads. Whole numbers are scaled into [−1, 1]; floats, compressed sound and
    what is resampled may go a little beyond.

    Arguments:
        rate: resample to it; None: leave the rate of the file.

    Raises ValueError where there is no such file, or where it holds no sound or only a part.
    """
    if rate is not None:
        _check_rate("rate", rate)
    place = _file(path)
    content, own = _decoded(place)
    samples = torch.from_numpy(content.mean(1))
    if not len(samples):
        raise ValueError(f"{place} has no samples; give a file with sound in it")
    if not is_finite(samples):
        raise ValueError(f"{place} is broken: it has NaN or infinite samples; write it anew")
    if rate is None or rate == own:
        return samples, own
    return resample(samples, own, rate), rate


def write(path: str | os.PathLike[str], samples: Tensor, rate: int) -> Path:
    """Write samples in [−1, 1] into a file, all of it or nothing; returns its path.

    Arguments:
        path: it ends in .wav or .flac, of 16 bits (half a step is 1/65536), or .ogg, compressed.
        samples: (n,), of one channel.

    Raises ValueError for anything else, and where the file cannot be written; an older file of
    that name is then left as it was.
    """
    kind = chosen("ending of a sound file", Path(path).suffix.lower(), ENDINGS)
    _check_rate("rate", rate)
    return write_whole(path, _encoded(_checked(samples), rate, kind))


def resample(samples: Num[Tensor, "*batch n"], rate: int, new_rate: int) -> Tensor:
    """Samples (..., n) at ``rate`` as (..., m) at ``new_rate``, m = n new_rate/rate, rounded.

    What lies above half of the lower rate is left out, and before and after the sound is silence.
    It is computed on the CPU in single precision at least, and no gradient goes through it.
    """
    check_tensor(samples, "samples")
    _check_rate("rate", rate)
    _check_rate("new_rate", new_rate)
    if not samples.is_floating_point() or not samples.ndim or not samples.numel():
        raise ValueError(
            f"got samples of {samples.dtype} and shape {tuple(samples.shape)}; give floating-point "
            "numbers (..., n), 1 at least"
        )
    if not is_finite(samples):
        raise ValueError("got NaN or infinite samples: remove or replace them first")
    x = at_least_single(samples.detach())
    return x if rate == new_rate else _resampled(x, rate, new_rate)


def _resampled(x: Tensor, rate: int, new_rate: int) -> Tensor:
    import soxr

    *batch, n = x.shape
    check_number("the number of samples at new_rate", n * new_rate / rate, least=0.5, most=1e9)
    rows = x.cpu().reshape(-1, n).numpy()
    made = [torch.from_numpy(soxr.resample(row, rate, new_rate)) for row in rows]
    return torch.stack(made).reshape(*batch, -1).to(x)


def _file(path: str | os.PathLike[str]) -> Path:
    """The path of a file with something in it."""
    place = Path(os.path.expanduser(path))
    if place.is_dir():
        raise ValueError(f"{place} is a folder; give the path of one file in it")
    if not place.is_file():
        raise ValueError(f"there is no file {place}; correct its path")
    if not place.stat().st_size:
        raise ValueError(f"{place} is empty; give a file with sound in it")
    return place


def _decoded(place: Path) -> tuple[np.ndarray, int]:
    """The samples (n, channels) and the rate."""
    import soundfile

    try:
        with soundfile.SoundFile(place) as file:
            content, there = file.read(dtype="float32", always_2d=True), file.frames
            notes, rate = file.extra_info, file.samplerate
    except (soundfile.SoundFileError, TypeError, MemoryError) as error:
        raise ValueError(
            f"{place} cannot be read as sound ({error}); give a whole WAV, FLAC, OGG or MP3 file"
        ) from error
    if len(content) < there or _is_cut(notes):
        raise ValueError(f"{place} is broken: its end is missing; copy or download it anew")
    return content, rate


def _is_cut(notes: str) -> bool:
    """Whether a WAV says that it has more bytes of sound than libsndfile found."""
    sizes = re.search(r"^data : (\d+) \(should be (\d+)\)", notes, re.MULTILINE)
    return sizes is not None and int(sizes[2]) < int(sizes[1]) < UNKNOWN_SIZE


def _encoded(samples: np.ndarray, rate: int, kind: str) -> bytes:
    """The content of a file of that kind."""
    import soundfile

    if kind != "OGG":
        samples = (samples * STEPS).round().clip(-STEPS, STEPS - 1).astype(np.int16)
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, channels=1, format=kind) as file:
        for start in range(0, len(samples), BLOCK):
            file.write(samples[start : start + BLOCK])
    return buffer.getvalue()


def _checked(samples: Tensor) -> np.ndarray:
    """The samples as an array; ValueError unless they are a row of numbers in [−1, 1]."""
    check_tensor(samples, "samples")
    if samples.ndim != 1 or not len(samples):
        raise ValueError(
            f"got samples of shape {tuple(samples.shape)}; give one channel (n,), n >= 1, such as "
            "the mean over the channels"
        )
    if not samples.is_floating_point():
        raise ValueError(f"got samples of {samples.dtype}; give floats: 16-bit ones over 32768")
    x = samples.detach().double().cpu()
    if not x.abs().max() <= 1:  # nor is it for NaN
        raise ValueError(
            f"got samples from {x.min():g} to {x.max():g}, but they must be in [-1, 1]: divide "
            "by the largest magnitude"
        )
    return x.numpy()


def _check_rate(name: str, rate: int) -> None:
    check_count(name, rate)
    check_number(name, rate, most=MOST_RATE)


keep_contract(globals())
