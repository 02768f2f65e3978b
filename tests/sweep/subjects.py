"""What is swept: every public function, class and method of gentext, found by looking.

Public are the modules that ``gentext/__init__.pyi`` lists, what they define themselves without a
leading underscore, and the methods that their classes have from gentext.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import gentext

PACKAGE = Path(gentext.__file__).parent
LISTED = re.compile(r"^from (\S+) import (\w+) as \w+$", re.MULTILINE)
ABSTRACT = (  # their methods are swept where they are inherited
    *("core.Model", "gan_nets.Critic", "gan_nets.Generator", "langevin.LinearSDE", "bases.Base"),
    *("transforms.Transform", "univariate.Univariate", "dequantization.Dequantized"),
    *("classifier.ImageClassifier", "distributions.Likelihood", "autoregressive.Autoregressive"),
)
NOT_FOR = [f"schedule.LearnedSchedule.{name}" for name in ("linear", "cosine", "from_beta")]
NOT_FOR += [f"conditional_vae.{kind}.represent" for kind in ("ConditionalVAE", "SemiSupervisedVAE")]
OPERATORS = ("__call__", "__len__")  # public although they begin with an underscore


@dataclass(frozen=True)
class Subject:
    """One thing to be called: a function, a constructor, or a method of an ``owner``."""

    name: str  # such as "vae.VAE.encode"
    function: Callable[..., Any]
    owner: type | None = None  # None: not a method
    method: str = ""

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """What it takes, by name; without self, and without what has no name of its own."""
        unnamed = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        every = list(inspect.signature(self.function).parameters.values())
        bound = self.owner is not None and not inspect.ismethod(self.function)
        return {p.name: p for p in every[int(bound) :] if p.kind not in unnamed}


def modules() -> list[ModuleType]:
    """The public modules, in the order of their names."""
    found = {}
    for folder, name in LISTED.findall((PACKAGE / "__init__.pyi").read_text("utf-8")):
        path = importlib.import_module(folder, "gentext").__name__
        whole = f"{path}.{name}" if folder != "." else f"gentext.{name}"
        if inspect.ismodule(getattr(gentext, name)):
            found[whole] = importlib.import_module(whole)
    return [found[name] for name in sorted(found)]


def alone() -> Iterator[tuple[str, str, Any]]:
    """Public names of modules that are not public themselves: module, name, and what it is."""
    listed = {module.__name__ for module in modules()} | {"gentext.core"}
    for _, name in LISTED.findall((PACKAGE / "__init__.pyi").read_text("utf-8")):
        thing = getattr(gentext, name)
        home = getattr(thing, "__module__", None)
        if not inspect.ismodule(thing) and home is not None and home not in listed:
            yield home, name, thing


def own(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Public functions and classes that ``module``, or for a folder its files, define."""
    public = getattr(module, "__all__", None) if hasattr(module, "__path__") else None
    gathers = public is not None or module is gentext.core
    for name in sorted(public or vars(module)):
        thing = getattr(module, name)
        home = getattr(thing, "__module__", "") or ""
        here = home == module.__name__ or (gathers and home.startswith("gentext"))
        if not name.startswith("_") and callable(thing) and here and not inspect.ismodule(thing):
            yield name, thing


def methods(kind: type) -> Iterator[tuple[str, Any]]:
    """Public methods of ``kind`` that some class of gentext defines."""
    for name in sorted(dir(kind)):
        where = next((c for c in kind.__mro__ if name in vars(c)), object)
        defined = where.__module__.startswith("gentext")
        thing = inspect.getattr_static(kind, name)
        plain = inspect.isfunction(thing) or isinstance(thing, classmethod | staticmethod)
        if defined and plain and (not name.startswith("_") or name in OPERATORS):
            yield name, getattr(kind, name)


@functools.cache
def subjects() -> dict[str, Subject]:
    """All of them by name, a constructor by that of its class."""
    found: dict[str, Subject] = {}
    seen: set[int] = set()
    every = [(m.__name__, name, thing) for m in modules() for name, thing in own(m)]
    for home, name, thing in (*every, *alone()):
        if id(thing) not in seen:
            seen.add(id(thing))
            whole = f"{home.rpartition('.')[2]}.{name}"
            if not inspect.isclass(thing):
                found[whole] = Subject(whole, thing)
            elif not getattr(thing, "_is_protocol", False):
                found[whole] = Subject(whole, thing)
                for method, function in () if whole in ABSTRACT else methods(thing):
                    inner = f"{whole}.{method}"
                    if inner in NOT_FOR or function is gentext.core.Model.check_batch:
                        # inherited, and refused, or handed on to ``check``, which is swept
                        continue
                    owner = None if inspect.ismethod(function) else thing
                    found[inner] = Subject(inner, function, owner, method)
    return found
