"""What is right about a call: it works, or it refuses in words.

A refusal is a TypeError or ValueError (or an OSError about a file, or a FloatingPointError about
what was computed) that a ``raise`` statement of gentext makes, or the TypeError of Python's own
check of a signature. Everything else that is raised is a fault; so is a warning, a result of NaN
from finite values, and a call that takes too long.
"""

from __future__ import annotations

import dis
import math
import signal
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor

import gentext

PACKAGE = str(Path(gentext.__file__).parent)
HERE = str(Path(__file__).parent)
REFUSALS = (ValueError, TypeError, OSError, FloatingPointError, NotImplementedError)
SHORTEST = 20  # letters of a sentence that says what to do
SECONDS = 20  # of the processor that one call may take
RAISES = {dis.opmap["RAISE_VARARGS"], dis.opmap.get("RERAISE", -1)}


class TooSlow(BaseException):
    """A call took too long."""


@dataclass(frozen=True)
class Verdict:
    """How a call ended: "works", "refused", or "fault" with what went wrong and where."""

    kind: str
    what: str = ""
    where: str = ""


def judged(call: Any, finite: bool, expected: Any = None) -> Verdict:
    """The verdict on ``call()``, whose ``finite`` arguments are to give finite numbers.

    ``expected``, where given, says what is wrong about a result, if anything.
    """
    signal.signal(signal.SIGPROF, _too_slow)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            result = call()
            if isinstance(result, Iterator):
                result = [part for part, _ in zip(result, range(100), strict=False)]
        except TooSlow as error:
            return Verdict("fault", f"took more than {SECONDS} seconds", _where(error))
        except Exception as error:
            return _of_error(error)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    if caught:
        first = caught[0]
        return Verdict(
            "fault", f"warns: {str(first.message)[:100]}", _place(first.filename, first.lineno)
        )
    if finite and _has_nan(result):
        return Verdict("fault", "NaN out of finite values", "")
    wrong = expected(result) if expected is not None else ""
    return Verdict("fault", wrong) if wrong else Verdict("works")


def wrong_shape(name: str, given: Mapping[str, Any], result: Any) -> str:
    """What is wrong about a result whose shape or type the name of a method promises."""
    method, x = name.rpartition(".")[2], given.get("x", given.get("tokens"))
    if not isinstance(result, Tensor):
        return ""
    if method != "loss" and not result.dim():
        return ""
    if method == "sample" and isinstance(given.get("n"), int) and len(result) != given["n"]:
        return f"{len(result)} samples for n={given['n']}"
    if method == "loss" and x is not None and (result.dim() or not result.is_floating_point()):
        return f"a loss of shape {tuple(result.shape)} and {result.dtype}"
    each = method in ("log_prob", "elbo", "pseudo_log_prob", "importance_log_prob")
    if each and isinstance(x, Tensor) and result.shape[:1] != x.shape[:1]:
        return f"{tuple(result.shape)} values for {tuple(x.shape)}"
    return ""


def differ(a: Any, b: Any) -> bool:
    """Whether two results of the same draws are not the same."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        kinds = a.shape == b.shape and a.dtype == b.dtype
        return not kinds or not torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) != len(b) or any(map(differ, a, b))
    if isinstance(a, int | float) and isinstance(b, int | float):
        return not math.isclose(a, b, rel_tol=1e-4)
    return isinstance(a, str) and a != b


def _too_slow(number: int, frame: FrameType | None) -> None:
    raise TooSlow


def _of_error(error: Exception) -> Verdict:
    """A refusal where it is said in words, by gentext or by Python about the signature."""
    frames = list(_frames(error.__traceback__))
    last, at = frames[-1]
    file = last.f_code.co_filename
    instruction = last.f_code.co_code[at]
    by_signature = (
        isinstance(error, TypeError)
        and "argument" in str(error)
        and (file.startswith(HERE) or "()" in str(error))
    )
    own = file.startswith(PACKAGE) and instruction in RAISES
    said = len(str(error)) >= SHORTEST or isinstance(error, NotImplementedError)
    theirs = file.startswith(HERE) and any(
        frame.f_code.co_filename.startswith(PACKAGE) for frame, _ in frames
    )  # of a function that was given
    named = isinstance(error, OSError) and error.filename is not None
    if theirs or named or (isinstance(error, REFUSALS) and said and (own or by_signature)):
        return Verdict("refused", str(error))
    message = str(error).strip().split("\n")[0][:110]
    return Verdict("fault", f"{type(error).__name__}: {message}", _where(error))


def _frames(tb: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    while tb is not None:
        yield tb.tb_frame, tb.tb_lasti
        tb = tb.tb_next


def _where(error: BaseException) -> str:
    """The innermost line of gentext on the way to an error."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith(PACKAGE):
            return _place(frame.filename, frame.lineno)
    return "outside"


def _place(file: str, line: int | None) -> str:
    return f"{Path(file).parent.name}/{Path(file).name}:{line}"


def _has_nan(value: Any, depth: int = 0) -> bool:
    if isinstance(value, Tensor):
        if value.device.type == "meta" or not (value.is_floating_point() or value.is_complex()):
            return False
        return bool(torch.isnan(value.detach()).any())
    if isinstance(value, float):
        return math.isnan(value)
    if isinstance(value, tuple | list) and depth < 3:
        return any(_has_nan(part, depth + 1) for part in value)
    if isinstance(value, Mapping) and depth < 3:
        return any(_has_nan(part, depth + 1) for part in value.values())
    return False


def all_finite(values: Any) -> bool:
    """Whether ``values`` have numbers, none of them NaN, infinite, or beyond a million."""
    for value in values:
        if isinstance(value, Tensor):
            if value.device.type == "meta" or value.is_complex():
                return False
            plain = value.detach().double()
            if not plain.numel() or not bool((plain.abs() < 1e6).all()):
                return False
        elif (isinstance(value, float | int) and not abs(value) < 1e6) or (
            isinstance(value, list | tuple) and not all_finite(value)
        ):
            return False
    return True
