"""Sound: waveforms and what is heard in them."""

import pkgutil

import lazy_loader as lazy

modules = [module.name for module in pkgutil.iter_modules(__path__)]
__getattr__, __dir__, __all__ = lazy.attach(__name__, submodules=modules)
