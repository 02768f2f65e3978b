"""The program ``gentext``: ``train``, ``finetune``, ``sample``, ``evaluate``, ``list``, ``data``.

What needs PyTorch is imported inside the commands, so that ``--help`` answers at once.
"""

from gentext.cli.commands import app, main

__all__ = ["app", "main"]
