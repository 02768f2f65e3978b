"""gentext: deep generative models, derived in a bilingual textbook and tested here.

``import gentext as gt`` gives the names listed in ``__init__.pyi``, each loaded when it is first
used.
"""

import lazy_loader as lazy

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
