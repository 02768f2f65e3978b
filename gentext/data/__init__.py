"""Data sets: what there is, bundled excerpts, full sets, texts, and what recipes make of them."""

import pkgutil

import lazy_loader as lazy

from gentext.data.dataset import Dataset, describe, fetch, load, names

__getattr__, _, _ = lazy.attach(
    __name__, submodules=[module.name for module in pkgutil.iter_modules(__path__)]
)
__all__ = ["Dataset", "describe", "fetch", "load", "names"]
