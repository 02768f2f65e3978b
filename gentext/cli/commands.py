"""The program ``gentext``: its commands, its version, and how it answers mistakes."""

from __future__ import annotations

import io
import os
import re
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import gentext
from gentext.cli.data_command import data_fetch, data_list
from gentext.cli.evaluate_command import evaluate
from gentext.cli.finetune_command import finetune
from gentext.cli.list_command import list_
from gentext.cli.sample_command import sample
from gentext.cli.train_command import train

# Errors that typer itself reports; their base class has moved between its versions.
_USAGE = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


class _Friendly(TyperGroup):
    """Errors are one line on stderr; exit code 2 for what the user can mend, 1 for the rest."""

    def invoke(self, ctx: Any) -> Any:
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except Exception as error:
            usage = isinstance(error, _USAGE)
            shown = usage and ("\n" in str(error) or not str(error))
            if shown or os.environ.get("GENTEXT_DEBUG") == "1":
                raise  # the first is the help itself, or nothing more where that was printed
            used = self.commands.get(ctx.invoked_subcommand or "")
            said = _of_usage(error) if usage else _in_options(_one_line(error), used)
            typer.secho(f"Error: {said}", fg="red", err=True)
            mendable = usage or isinstance(error, ValueError | FileNotFoundError)
            raise typer.Exit(2 if mendable else 1) from error


def _of_usage(error: Any) -> str:
    """What typer found wrong, and where the options are explained."""
    where = f" (see `{error.ctx.command_path} --help`)" if error.ctx else ""
    return " ".join(error.format_message().split()).removesuffix(".") + where


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _in_options(text: str, command: Any) -> str:
    """``text`` in the words of the command line: ``top_k=0`` is ``--top-k 0``."""
    for parameter in getattr(command, "params", ()):
        if parameter.opts[0].startswith("--"):
            option, name = parameter.opts[0], parameter.name
            text = re.sub(rf"\b{name}=True\b", option, text)
            text = re.sub(rf"\b{name}=(?=\S)", f"{option} ", text)
    return text


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
for command in (train, finetune, sample, evaluate):
    app.command()(command)
data_app = typer.Typer(no_args_is_help=True, help="Data sets: what there is, and the full ones.")
data_app.command("list")(data_list)
data_app.command("fetch")(data_fetch)
app.add_typer(data_app, name="data")


def main() -> None:
    """Run the command line; what a console has no letters for is written as its number."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="gentext")
