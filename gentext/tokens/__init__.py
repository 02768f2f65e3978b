"""Texts as numbers: characters, words, pairs of bytes; and texts completed by a model."""

import pkgutil

import lazy_loader as lazy

modules = [module.name for module in pkgutil.iter_modules(__path__)]
__getattr__, __dir__, __all__ = lazy.attach(__name__, submodules=modules)
