"""The command line: ``gentext train``, ``sample``, ``evaluate``, ``list`` and ``data``.

What needs PyTorch is imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

import gentext

if TYPE_CHECKING:
    from gentext.core import Model


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


_EPILOG = "Set GENTEXT_DEBUG=1 to see where an error came from."
app = typer.Typer(cls=_Friendly, no_args_is_help=True, add_completion=False, epilog=_EPILOG)
data_app = typer.Typer(no_args_is_help=True, help="Data sets: what there is, and the full ones.")
app.add_typer(data_app, name="data")

Name = Annotated[str, typer.Argument(metavar="NAME", help="An experiment of `gentext list`.")]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="What `gentext train` saved, the file or its folder.",
        show_default="the weights that come with gentext",
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="The same number gives the same result.")]
FullData = Annotated[
    bool, typer.Option("--full-data", help="The whole data set, not the bundled excerpt.")
]


def _version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"gentext {gentext.__version__}")
        raise typer.Exit
    return wanted


@app.callback()
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


@app.command("list")
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


@app.command()
def train(
    name: Name,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Updates of the weights.", show_default="by budget")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", show_default="runs/NAME", help="For the result")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="quick|full", help="A minute, or as long as it takes.", show_default="by device"
        ),
    ] = None,
    seed: Seed = 0,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Examples in an update.")] = None,
    lr: Annotated[float | None, typer.Option(help="The learning rate, such as 1e-3.")] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="no|fp16|bf16", help="Mixed precision, for GPUs.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from what is in --out.")] = False,
    full_data: FullData = False,
) -> None:
    """Train an experiment; a folder with its checkpoint results.

    Interrupted? The same command with --resume goes on exactly where it was saved.

    Example: gentext train vae_fashion --steps 200 --out runs/first
    """
    import torch

    from gentext import recipes
    from gentext.training import saver as state
    from gentext.training.train import fit

    out = out or Path("runs") / name
    torch.manual_seed(seed)  # of the first weights, which a resumed run may need again
    model, data, config = recipes.build(name, budget, full_data=full_data)
    given: dict[str, Any] = {
        "steps": steps,
        "batch_size": batch_size,
        "lr": lr,
        "precision": precision,
    }
    config = replace(config, seed=seed, **{k: v for k, v in given.items() if v is not None})
    config = replace(config, warmup=min(config.warmup, config.steps // 5))
    try:
        history = fit(model, data, config, out=out, resume=resume, recipe=name)
    except KeyboardInterrupt as stop:
        typer.secho("Stopped; with --resume it goes on from the last save.", fg="red", err=True)
        raise typer.Exit(130) from stop
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    if os.environ.get("RANK", "0") == "0":
        last = history.loss[-100:]
        typer.echo(
            f"{config.steps} steps in {history.seconds:.0f} s; loss {sum(last) / len(last):.4g} "
            f"(mean of the last {len(last)} steps); saved {out / state.NAME}"
        )


@app.command()
def sample(
    name: Name,
    checkpoint: Checkpoint = None,
    n: Annotated[
        int | None,
        typer.Option("--n", min=1, help="How many to draw.", show_default="64 images, 1 text"),
    ] = None,
    seed: Seed = 0,
    mean: Annotated[
        bool, typer.Option("--mean", help="The expected image of each code, without pixel noise.")
    ] = False,
    prompt: Annotated[
        str | None,
        typer.Option(help="How a text begins, what to translate, or what a picture shows."),
    ] = None,
    length: Annotated[
        int | None, typer.Option(min=1, help="Tokens to write.", show_default="one context")
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="Below 1 what is likely is preferred; of tokens, 0 the likeliest.")
    ] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Draw from the k likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw from the likeliest share p.")] = None,
    beam: Annotated[int, typer.Option(min=1, help="Beams of a translation.")] = 1,
    label: Annotated[
        str | None, typer.Option(help="The class to draw, its name or number.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Steps of a diffusion.", show_default="20; of tokens, one each"),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(metavar="ddpm|ddim|dpm++|heun", help="How.", show_default="dpm++"),
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="How far past the class, 0 for not.", show_default="0")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="For the result.", show_default="a file, or print"),
    ] = None,
) -> None:
    """Draw new examples from a trained model: a picture, texts, a table; translate a text.

    Example: gentext sample vae_fashion --n 64 --seed 0 --out grid.png

    gentext sample gpt_poems --prompt 春 --n 4 --temperature 0.8

    gentext sample nsf_moons --n 1000 --out points.csv

    gentext sample seq2seq_en_zh --prompt "He bought three books." --beam 4

    gentext sample diffusion_fashion --n 16 --label Sandal --guidance 1 --out sandals.png

    gentext sample latent_diffusion_emoji --prompt "red heart" --guidance 2 --out hearts.png
    """
    import torch

    from gentext import Samples
    from gentext.figures import plot

    model: Any = _load(name, checkpoint)
    tokenizer = _tokenizer(name, checkpoint)
    if not isinstance(model, Samples) and not hasattr(model, "translate"):
        raise ValueError(f"a {type(model).__name__} cannot draw samples; choose another experiment")
    kind = _kind(model, tokenizer)
    given: dict[str, Any] = {"n": n, "prompt": prompt, "length": length, "mean": mean or None}
    given |= {"temperature": None if temperature == 1 else temperature, "top-k": top_k}
    given |= {"top-p": top_p, "beam": None if beam == 1 else beam}
    given |= {"label": label, "steps": steps, "sampler": sampler, "guidance": guidance}
    _check_taken(name, model, kind, [key for key, value in given.items() if value is not None])
    options: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    if steps is not None:
        options["steps"] = steps
    generator = torch.Generator(next(model.parameters()).device).manual_seed(seed)
    if kind == "translations":
        _show([_translate(model, tokenizer, prompt, beam, length)], out)
        return
    if kind == "texts":
        _show(_write(model, tokenizer, prompt or "", n or 1, length, generator, options), out)
        return
    settings: dict[str, Any] = {"generator": generator} | ({"mean": True} if mean else {})
    if kind != "pixels" and temperature != 1:
        settings["temperature"] = temperature
    ways = {"steps": steps, "sampler": sampler, "guidance": guidance}
    settings |= {key: value for key, value in ways.items() if value is not None}
    if label is not None:
        number = _class_number(name, model, label)
        settings["y"] = torch.full((n or 64,), number, device=generator.device)
    elif kind == "images" and prompt is not None:
        settings["y"] = _prompt_rows(model, tokenizer, prompt, n or 64).to(generator.device)
    if kind == "rows":
        _save_rows(model.sample(n or 64, **settings), out or Path("rows.csv"))
        return
    with torch.no_grad():
        if kind == "pixels":
            images = _draw_pixels(name, model, n or 64, {**settings, **options})
        else:
            images = model.sample(n or 64, **settings)
    typer.echo(f"saved {plot.save_grid(images.cpu(), out or Path('grid.png'))}")


@app.command()
def evaluate(
    name: Name,
    checkpoint: Checkpoint = None,
    limit: Annotated[
        int | None, typer.Option(min=2, help="Test examples to use.", show_default="all")
    ] = None,
    k: Annotated[
        int, typer.Option("--k", min=0, help="Samples of the importance bound, 0 to leave it out.")
    ] = 100,
    seed: Seed = 0,
    full_data: FullData = False,
) -> None:
    """Measure a trained model on test data.

    Example: gentext evaluate vae_fashion --limit 500
    """
    from gentext import recipes
    from gentext.evaluation import metrics

    model = _load(name, checkpoint)
    recipe = name if name in recipes.RECIPES else gentext.zoo.card(name)["recipe"]
    _, data, _ = recipes.build(recipe, "quick", full_data=full_data)
    own = _tokenizer(name, checkpoint)
    if own is not None and own.to_json() != data.tokenizer.to_json():
        raise ValueError(
            f"{name} was trained with another tokenizer than that of these texts; evaluate it on "
            "the texts that it was trained on (see $GENTEXT_DATA)"
        )
    typer.echo(f"{name} on {data.name}, test split (seed {seed})")
    features = gentext.zoo.classifier(data.name)
    if features is not None:
        features.to(next(model.parameters()).device)
    settings: dict[str, Any] = {"seed": seed, "limit": limit, "k": k, "features": features}
    for key, value in metrics.evaluate(model, data, **settings).items():
        number = f"{value:12.0f}" if key in ("n", "modes") else f"{value:12.4f}"
        typer.echo(f"  {key:26}{number}  {_unit(key)}")


@data_app.command("list")
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


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of `gentext data list`.")],
    root: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to put it.", show_default="the user's cache"),
    ] = None,
) -> None:
    """Download a full data set and check it; an interrupted download goes on.

    Example: gentext data fetch fashion-mnist
    """
    from gentext import data

    typer.echo(f"{name} is in {data.fetch(name, root=root)}")


def _load(name: str, file: Path | None) -> Model:
    """The trained model ``name`` from ``file`` or the zoo, on the accelerator if there is one."""
    from accelerate import PartialState

    from gentext.training import checkpoint

    path = _file(name, file)
    model = checkpoint.load(path)
    made = checkpoint.info(path)["recipe"]
    if made not in (None, name):
        raise ValueError(f"{path} was trained as {made!r}, not {name!r}; give its own name")
    return model.to(PartialState().device)


def _file(name: str, file: Path | None) -> Path:
    """The checkpoint file that is meant."""
    from gentext import zoo
    from gentext.training import saver as state

    if file is not None:
        return file / state.NAME if file.is_dir() else file
    if name not in zoo.names():
        raise ValueError(
            f"no trained weights of {name!r} come with gentext (there are: "
            f"{', '.join(zoo.names()) or 'none'}); train it and pass --checkpoint FILE"
        )
    return zoo.path(name)


def _tokenizer(name: str, file: Path | None) -> Any:
    """The tokenizer that the checkpoint carries, or None."""
    from gentext.tokens import tokenizer
    from gentext.training import checkpoint

    text = checkpoint.info(_file(name, file)).get("tokenizer")
    return None if text is None else tokenizer.from_json(text)


# What the options of `gentext sample` mean something for.
_TAKES = {
    "translations": {"prompt", "length", "beam"},
    "texts": {"n", "prompt", "length", "temperature", "top-k", "top-p", "steps"},
    "pixels": {"n", "temperature", "top-k", "top-p", "steps"},
    "rows": {"n", "temperature", "steps", "sampler"},
    "images": {"n", "mean", "temperature", "steps", "sampler", "guidance"},
}


def _kind(model: Any, tokenizer: Any) -> str:
    """What the model makes, a key of _TAKES."""
    from gentext.flows.flow import Flow

    if hasattr(model, "translate"):
        return "translations"
    if hasattr(model, "generate"):
        return "pixels" if tokenizer is None else "texts"
    shape = getattr(model, "shape", ())
    return "rows" if isinstance(model, Flow) or len(shape) == 1 else "images"


def _check_taken(name: str, model: Any, kind: str, given: list[str]) -> None:
    """ValueError for an option that this model would not heed."""
    from inspect import signature

    taken = _TAKES[kind]
    if kind in ("rows", "images"):
        heeded = set(signature(model.sample).parameters)
        if hasattr(model, "diffusion"):  # to which the options of a latent diffusion go
            heeded |= set(signature(model.diffusion.sample).parameters)
        taken = {"n"} | taken & heeded
        if getattr(model, "classes", 0) and "y" in heeded:
            taken |= {"label"}
        if getattr(model, "vocab_size", 0):
            taken |= {"prompt"}
    elif kind in ("texts", "pixels") and "steps" not in signature(model.generate).parameters:
        taken = taken - {"steps"}
    for option in given:
        if option not in taken:
            raise ValueError(
                f"{name} makes {kind} and takes no --{option}; leave it out (it takes "
                f"{', '.join(f'--{key}' for key in sorted(taken))})"
            )


def _class_number(name: str, model: Any, label: str) -> int:
    """The number of the class ``label`` of an experiment, a name or a number."""
    from gentext import recipes, zoo

    recipe = name if name in recipes.RECIPES else zoo.card(name)["recipe"]
    classes = recipes.build(recipe, "quick")[1].classes or tuple(map(str, range(model.classes)))
    if label in classes:
        return classes.index(label)
    if label.isdecimal() and int(label) < model.classes:
        return int(label)
    raise ValueError(
        f"{name} has no class {label!r}; choose one of {', '.join(classes)}, or its number"
    )


def _prompt_rows(model: Any, tokenizer: Any, prompt: str, n: int) -> Any:
    """``n`` times the tokens of what a picture is to show."""
    from gentext.data.prepared import PROMPT
    from gentext.tokens.completion import check_fits
    from gentext.tokens.tokenizer import rows

    if tokenizer is None:
        raise ValueError("this checkpoint has no tokenizer to read a prompt with; leave it out")
    check_fits(model, tokenizer)
    return rows(tokenizer, [prompt] * n, PROMPT, strict=True)


def _write(
    model: Any,
    tokenizer: Any,
    prompt: str,
    n: int,
    length: int | None,
    generator: Any,
    options: dict[str, Any],
) -> list[str]:
    """``n`` texts that begin with ``prompt``."""
    from gentext.tokens.completion import complete

    length = length or (model.context or 256) - len(tokenizer.encode(prompt))
    return [
        complete(model, tokenizer, prompt, length, generator=generator, **options) for _ in range(n)
    ]


def _translate(model: Any, tokenizer: Any, text: str | None, beams: int, n: int | None) -> str:
    """The translation of ``text``."""
    import torch

    from gentext.tokens.completion import check_fits
    from gentext.tokens.tokenizer import EOS

    if not text:
        raise ValueError("there is nothing to translate; give --prompt TEXT")
    check_fits(model, tokenizer)
    tokens = [*tokenizer.encode(text), EOS]
    if len(tokens) > model.context:
        raise ValueError(
            f"the text has {len(tokens)} tokens with its end, but this model reads at most "
            f"{model.context}; translate it in parts"
        )
    source = torch.tensor([tokens], device=next(model.parameters()).device)
    return str(tokenizer.decode(model.translate(source, width=beams, length=n)[0].tolist()))


def _show(texts: list[str], out: Path | None) -> None:
    """Print the texts, or write them to a file, with an empty line between."""
    joined = "\n\n".join(texts)
    if out is None:
        typer.echo(joined)
        return
    out.write_text(joined + "\n", "utf-8")
    typer.echo(f"saved {out}")


def _save_rows(rows: Any, file: Path) -> None:
    """Write examples (n, features) as comma-separated values under the names x1, x2, ..."""
    import csv
    import io

    from gentext.figures.plot import write_whole

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(f"x{column + 1}" for column in range(rows.shape[1]))
    writer.writerows([f"{value:.6g}" for value in row] for row in rows.tolist())
    typer.echo(f"saved {write_whole(file, text.getvalue().encode())}")


def _draw_pixels(name: str, model: Any, n: int, options: dict[str, Any]) -> Any:
    """``n`` images by a model of which each token is a pixel."""
    import torch

    from gentext import recipes, zoo

    recipe = name if name in recipes.RECIPES else zoo.card(name)["recipe"]
    data = recipes.build(recipe, "quick")[1]
    if not data.image_shape:
        raise ValueError(f"{name} makes neither texts nor images that could be shown")
    empty = torch.empty(n, 0, dtype=torch.long, device=next(model.parameters()).device)
    tokens = model.generate(empty, *data.shape, **options)
    most = (data.levels or 2) - 1
    return (tokens.clamp(max=most) / most).reshape(-1, *data.image_shape)


def _first_line(docstring: str | None) -> str:
    return (docstring or "").split("\n")[0].replace("``", "")


def _unit(metric: str) -> str:
    """The unit of a metric that ``metrics.evaluate`` gives."""
    if metric.endswith("bits_per_dim"):
        return "bits/dim"
    if metric == "bits_per_char":
        return "bits/character"
    units = {"n": "examples", "se": "nats, standard error", "exact": "share of the examples"}
    units |= {"perplexity": "tokens", "pseudo_perplexity": "tokens"}
    units |= {"bleu": "of 100", "chrf": "of 100", "accuracy": "share of the examples"}
    units |= {"frechet": "squared distance of features", "mmd": "squared discrepancy"}
    units |= dict.fromkeys(("precision", "near"), "share of the samples")
    units |= {"recall": "share of the examples", "reverse_kl": "nats", "modes": "found"}
    return units.get(metric, "nats per example")


def main() -> None:
    """Run the command line."""
    app(prog_name="gentext")


if __name__ == "__main__":
    main()
