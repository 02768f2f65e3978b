"""The command line: ``gentext train``, ``sample``, ``evaluate``, ``list`` and ``data``.

What needs PyTorch is imported inside the commands, so that ``--help`` answers at once.
"""

from gentext.cli.commands import app, main

__all__ = ["app", "main"]
