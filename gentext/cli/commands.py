"""The program ``gentext``: its commands, its version, and how it answers mistakes."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import gentext
from gentext.cli.data_command import data_fetch, data_list
from gentext.cli.evaluate_command import evaluate
from gentext.cli.list_command import list_
from gentext.cli.sample_command import sample
from gentext.cli.train_command import train

# Errors that typer itself reports; their base class has moved between its versions.
_USAGE = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
_TYPERS_OWN = (typer.Exit, typer.Abort, _USAGE)


class _Friendly(TyperGroup):
    """Errors are one line on stderr; exit code 2 for what the user can mend, 1 for the rest."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            if isinstance(error, _TYPERS_OWN) or os.environ.get("GENTEXT_DEBUG") == "1":
                raise
            typer.secho(f"Error: {error}", fg="red", err=True)
            raise typer.Exit(2 if isinstance(error, ValueError) else 1) from error


def _version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"gentext {gentext.__version__}")
        raise typer.Exit
    return wanted


def gentext_(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show it and exit."),
    ] = False,
) -> None:
    """Deep generative models: train them, draw from them, measure them.

    A first round: `gentext list`, then `gentext train vae_fashion --steps 200 --out runs/first`,
    then `gentext sample vae_fashion --checkpoint runs/first --out grid.png`.
    """


_EPILOG = "Set GENTEXT_DEBUG=1 to see where an error came from."
app = typer.Typer(cls=_Friendly, no_args_is_help=True, add_completion=False, epilog=_EPILOG)
app.callback()(gentext_)
app.command("list")(list_)
for command in (train, sample, evaluate):
    app.command()(command)
data_app = typer.Typer(no_args_is_help=True, help="Data sets: what there is, and the full ones.")
data_app.command("list")(data_list)
data_app.command("fetch")(data_fetch)
app.add_typer(data_app, name="data")


def main() -> None:
    """Run the command line."""
    app(prog_name="gentext")
