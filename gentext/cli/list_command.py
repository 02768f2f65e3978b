"""``gentext list``: the experiments and the trained weights."""

from __future__ import annotations

import typer


def list_() -> None:
    """List the experiments (models with their data) and the trained weights.

    Example: gentext list
    """
    from gentext import recipes, zoo

    typer.secho("Experiments, for gentext train NAME:", bold=True)
    for name, recipe in recipes.RECIPES.items():
        typer.echo(f"  {name:28}{_first_line(recipe.__doc__)}")
    typer.secho("Trained weights, for gentext sample NAME and gentext evaluate NAME:", bold=True)
    for name in zoo.names():
        measured = {k: v for k, v in zoo.card(name).get("metrics", {}).items() if k != "n"}
        typer.echo(f"  {name:28}{', '.join(f'{k} {v:.4g}' for k, v in measured.items())}")
    if not zoo.names():
        typer.echo("  none yet")


def _first_line(docstring: str | None) -> str:
    return (docstring or "").split("\n")[0].replace("``", "")
