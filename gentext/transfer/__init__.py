"""Transfer: what one training learnt, used in another task with few labels."""

import pkgutil

import lazy_loader as lazy

modules = [module.name for module in pkgutil.iter_modules(__path__)]
__getattr__, __dir__, __all__ = lazy.attach(__name__, submodules=modules)
