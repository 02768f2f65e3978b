"""``gentext data list`` and ``gentext data fetch``: what data sets there are, and the full ones."""

from __future__ import annotations

import typer

from gentext.cli import options


def data_list() -> None:
    """List the data sets: content, size, licence, and whether the full set is here.

    Example: gentext data list
    """
    from gentext import data
    from gentext.data import text

    for name in data.names():
        typer.echo(str(data.describe(name)))
    for name, source in text.SOURCES.items():
        typer.echo(f"{name}: {source.content}; {source.licence}; a text, for gentext.text.load")


def data_fetch(name: options.DataName, root: options.DataRoot = None) -> None:
    """Download a full data set and check it; an interrupted download goes on.

    Example: gentext data fetch fashion-mnist
    """
    from gentext import data
    from gentext.data import text

    if name in text.SOURCES:
        raise ValueError(f"{name!r} comes whole with gentext; there is nothing to fetch")
    typer.echo(f"{name} is in {data.fetch(name, root=root)}")
