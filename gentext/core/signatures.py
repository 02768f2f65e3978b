"""Signatures as a contract: what a caller gives is compared with them, and refused in words.

At the end of a module ``keep_contract(globals())`` puts this around its public functions and the
public methods of its classes. Whether numbers, strings and generators are such is looked at before
a call; in which range they are is for the function to say. Of tensors it is only asked whether they
are complex: a call that works costs nothing more. Where one fails, what was given is compared with
the annotations, and the error names the argument that does not fit, or all of them where they do
not fit one another. Only calls from outside are looked at: neither what gentext calls itself nor
what ``torch.compile`` traces.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import os
import sys
import sysconfig
import textwrap
import threading
import traceback
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ForwardRef, TypeVar, Union, get_args, get_origin

import jaxtyping
import numpy as np
import torch
from torch import Tensor

PACKAGE = str(Path(__file__).parents[1])
_FOLDERS = (PACKAGE, str(Path(torch.__file__).parents[1]), sysconfig.get_path("stdlib"))
LIBRARIES = (*(folder + os.sep for folder in _FOLDERS), "<")
# What is raised where arguments do not fit one another:
CLASHES = RuntimeError, LookupError, AttributeError, TypeError, ValueError, ArithmeticError
LARGEST = 2**63  # integers beyond it do not fit into 64 bits
KINDS = {"Float": "floating-point", "Int": "integers", "Num": "numbers", "Bool": "True and False"}
NUMBERS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "a string",
}
OPERATORS = ("__init__", "__call__")

_calls = threading.local()  # ``inside``: whether this thread is in a call that was looked at


def keep_contract(module: dict[str, Any]) -> None:
    """Put the contract around the public functions and classes that ``module`` defines."""
    for name, thing in list(module.items()):
        if name.startswith("_") or getattr(thing, "__module__", None) != module["__name__"]:
            continue
        if isinstance(thing, types.FunctionType):
            module[name] = _held(thing)
        elif isinstance(thing, type) and not _is_uncalled(thing):
            _hold_methods(thing)


def _is_uncalled(kind: type) -> bool:
    """Protocols and steps of autograd, whose methods are not called by hand."""
    return getattr(kind, "_is_protocol", False) or issubclass(kind, torch.autograd.Function)


def _hold_methods(kind: type) -> None:
    for name, thing in list(vars(kind).items()):
        if name.startswith("_") and name not in OPERATORS:
            continue
        if isinstance(thing, types.FunctionType):
            setattr(kind, name, _held(thing, kind.__name__))
        elif isinstance(thing, classmethod | staticmethod):
            held = _held(thing.__func__, kind.__name__)
            setattr(kind, name, type(thing)(held))


def _held(function: Callable[..., Any], owner: str = "") -> Callable[..., Any]:
    """``function`` under its contract."""
    name = function.__name__
    title = owner if name == "__init__" else f"{owner}.{name}".lstrip(".")

    @functools.wraps(function)
    def held(*given: Any, **named: Any) -> Any:
        if torch.compiler.is_compiling() or getattr(_calls, "inside", False):
            return function(*given, **named)
        contract = _contract(function)
        given, named = contract.checked(given, named)
        _calls.inside = not contract.passes_on
        try:
            result = function(*given, **named)
        except Exception as error:
            words = contract.words(error, title, given, named)
            if words is None:
                raise
            raise ValueError(words) from error
        finally:
            _calls.inside = False
        if isinstance(result, types.GeneratorType):
            return _iterated(result, title, contract, given, named)
        return result

    return held


def _iterated(
    parts: Iterator[Any], title: str, contract: Contract, given: tuple[Any, ...], named: Any
) -> Iterator[Any]:
    """``parts``, with the same words for what fails on the way."""
    try:
        yield from parts
    except Exception as error:
        words = contract.words(error, title, given, named)
        if words is None:
            raise
        raise ValueError(words) from error


class Contract:
    """The parameters of a function and what their annotations allow."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.signature = inspect.signature(function)
        every = self.signature.parameters.values()
        self.passes_on = any(p.kind is p.VAR_KEYWORD for p in every)  # to a contract of its own
        module = vars(sys.modules[function.__module__])
        single = [p for p in every if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        self.kinds = {p.name: _evaluated(p.annotation, module) for p in single}
        self.early = {name: kind for name, kind in self.kinds.items() if _is_early(kind)}

    def bound(self, given: tuple[Any, ...], named: dict[str, Any]) -> inspect.BoundArguments | None:
        """The arguments by name; None where Python itself refuses the call."""
        try:
            return self.signature.bind(*given, **named)
        except TypeError:
            return None

    def checked(
        self, given: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments, numbers as Python's; ValueError for numbers and names that are none."""
        every = (*given, *named.values())  # of which arrays and complex tensors half work
        strange = any(
            v.is_complex() if isinstance(v, Tensor) else isinstance(v, np.ndarray) for v in every
        )
        bound = self.bound(given, named) if self.early or strange else None
        if bound is None:
            return given, named
        misfit = self.misfit(dict(bound.arguments)) if strange else None
        if misfit is not None:
            raise ValueError(misfit)
        for name, value in bound.arguments.items():
            if name in self.early:
                if not _fits(value, self.early[name]):
                    raise ValueError(_refusal(name, value, self.early[name]))
                bound.arguments[name] = plain(value)
        return bound.args, bound.kwargs

    def words(
        self, error: Exception, title: str, given: tuple[Any, ...], named: dict[str, Any]
    ) -> str | None:
        """What to say instead of ``error``; None where it says enough or is another's."""
        frames = traceback.extract_tb(error.__traceback__)
        own = (f.f_globals for f, _ in traceback.walk_tb(error.__traceback__))
        last = frames[-1]
        raised = not last.line or last.line.startswith("raise")
        if raised and last.filename.startswith(LIBRARIES[0]):
            return None
        bound = self.bound(given, named)
        arguments = {} if bound is None else dict(bound.arguments)
        misfit = self.misfit(arguments)
        if misfit is not None or bound is None:
            return misfit
        others = any(names.get("__name__") == "__main__" for names in own)  # also typed by hand
        others = others or not all(f.filename.startswith(LIBRARIES) for f in frames)
        if others or not isinstance(error, CLASHES) or isinstance(error, torch.OutOfMemoryError):
            return None
        reason = str(error).strip().split("\n")[0]
        shown = [f"{k}={_described(v)}" for k, v in arguments.items() if k not in ("self", "cls")]
        got = ", ".join(shown)
        if "allocate memory" in reason:
            return f"{title} got {got}, for which there is not enough memory: give less"
        return f"{title} got {got}, which do not fit one another ({reason}): see help({title})"

    def misfit(self, arguments: dict[str, Any]) -> str | None:
        """What to say of the first argument that its annotation does not allow."""
        with jaxtyping.jaxtyped("context"):  # letters of shapes mean the same in all arguments
            for name, value in arguments.items():
                fits = any(  # arrays are looked at here, for what letters mean ends with a function
                    isinstance(value, kind) if _is_array(kind) else _fits_one(value, kind)
                    for kind in _alternatives(self.kinds.get(name, Any))
                )
                if not fits:
                    return _refusal(name, value, self.kinds[name])
        return None


@functools.cache
def _contract(function: Callable[..., Any]) -> Contract:
    return Contract(function)


def _evaluated(annotation: Any, module: Mapping[str, Any]) -> Any:
    """What an annotation names; Any where that is known to type checkers only."""
    if annotation is inspect.Parameter.empty:
        return Any
    try:
        return eval(annotation, dict(module)) if isinstance(annotation, str) else annotation
    except NameError:
        return Any


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _is_early(kind: Any) -> bool:
    """Whether all that it allows are numbers, strings, sequences of them, generators, or None."""
    plain = (*NUMBERS, torch.Generator, type(None))
    return all(
        alternative in plain
        or get_origin(alternative) is type
        or (_is_sequence(alternative) and all(p in plain for p in _parts(alternative)))
        for alternative in _alternatives(kind)
    )


def _is_array(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, jaxtyping.AbstractArray)


def _is_sequence(kind: Any) -> bool:
    origin = get_origin(kind)
    return isinstance(origin, type) and issubclass(origin, Collection) and origin is not type


def _parts(kind: Any) -> tuple[Any, ...]:
    return tuple(part for part in get_args(kind) if part is not ...)


def _fits(value: Any, kind: Any) -> bool:
    """Whether ``kind`` allows ``value``; what nothing is known about does."""
    return any(_fits_one(value, alternative) for alternative in _alternatives(kind))


def _fits_one(value: Any, kind: Any) -> bool:
    if kind in NUMBERS:
        return _is_number(value, kind)
    if kind is None or kind is type(None):
        return value is None
    if _is_sequence(kind):
        return _fits_sequence(value, kind)
    if get_origin(kind) is type:
        return isinstance(value, type)
    if get_origin(kind) is not None:
        return callable(value) if get_origin(kind) is collections.abc.Callable else True
    if kind is Any or isinstance(kind, TypeVar | ForwardRef | str) or not isinstance(kind, type):
        return True
    if getattr(kind, "_is_protocol", False) and not getattr(kind, "_is_runtime_protocol", False):
        return True
    return isinstance(value, kind)


def _fits_sequence(value: Any, kind: Any) -> bool:
    parts, origin = _parts(kind), get_origin(kind)
    if issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(_fits(v, parts[-1]) for v in value.values())
    if not isinstance(value, Collection | Tensor):
        return False
    if origin is not Collection and isinstance(value, Mapping | set | bytes):
        return False
    if isinstance(value, np.ndarray | Tensor) and value.ndim != 1:
        return False
    if origin is tuple and ... not in get_args(kind):
        return len(value) == len(parts) and all(map(_fits, value, parts))
    return all(_fits(part, parts[0]) for part in value) if parts else True


def _is_number(value: Any, kind: type) -> bool:
    value = plain(value)
    if kind is bool:
        return isinstance(value, bool) or (isinstance(value, Integral) and value in (0, 1))
    if kind is str:
        return isinstance(value, str)
    if kind is int:
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        return whole and -LARGEST <= value < LARGEST
    if isinstance(value, Tensor):
        return value.ndim == 0
    return isinstance(value, Real) and not isinstance(value, bool)


def _refusal(name: str, value: Any, kind: Any) -> str:
    """One sentence: what came, what is allowed."""
    allowed = " or ".join(map(_allowed, _alternatives(kind)))
    tensor = isinstance(value, np.ndarray) and "ensor" in allowed
    remedy = f": torch.as_tensor({name})" if tensor else ""
    return f"got {name}={_described(value)}; {name} must be {allowed}{remedy}"


def _allowed(kind: Any) -> str:
    """The words for one alternative of an annotation."""
    if kind is None or kind is type(None):
        return "None"
    if _is_array(kind):
        shape = kind.dim_str.replace(" ", ", ")
        return f"a tensor of {KINDS.get(kind.__name__[:-1].split('[')[0], 'numbers')}, ({shape})"
    if _is_sequence(kind):
        parts = " or ".join(dict.fromkeys(map(_allowed, _parts(kind)))) or "anything"
        many = "a mapping" if issubclass(get_origin(kind), Mapping) else "a sequence"
        return f"{many}, of which each is {parts}"
    return NUMBERS.get(kind) or f"a {getattr(kind, '__name__', kind)}"


def _described(value: Any) -> str:
    """A short description: type and shape of tensors and arrays, else the value itself."""
    if isinstance(value, Tensor):
        where = "" if value.device.type == "cpu" else f" on {value.device}"
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}{where}"
    if isinstance(value, np.ndarray):
        return f"a NumPy array {value.shape}"
    if isinstance(value, int | float | str | type(None) | list | tuple):
        return textwrap.shorten(repr(value), 60, placeholder="...")
    return f"a {type(value).__name__}"


def plain(value: Any) -> Any:
    """Numbers of NumPy and of tensors as Python's, also inside sequences; all else as it is.

    Arrays of one dimension and ``torch.Size`` become tuples, named tuples and collections of a
    kind of their own, such as ``Counter``, stay what they are.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.ndim < 2:
        return plain(value[()]) if value.ndim == 0 else tuple(value.tolist())
    if isinstance(value, Tensor) and value.ndim == 0 and not value.requires_grad:
        return value if value.device.type == "meta" else value.item()
    if isinstance(value, tuple):
        return getattr(value, "_make", tuple)(map(plain, value))
    if type(value) is list:
        return [plain(v) for v in value]
    if type(value) is dict:
        return {name: plain(v) for name, v in value.items()}
    return value
