"""Building blocks of networks and of distributions, which know nothing of any family."""

import pkgutil

import lazy_loader as lazy

modules = [module.name for module in pkgutil.iter_modules(__path__)]
__getattr__, __dir__, __all__ = lazy.attach(__name__, submodules=modules)
