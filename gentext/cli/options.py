"""What the commands are given: each argument and option once, with its help."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer


def _path(text: str) -> Path:
    """A path, in which ``~`` is the reader's home, also where the shell left it as it was."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # somebody's home who is not known here
        return Path(text)


def _text(text: str) -> str:
    """What was typed, also where the locale is not UTF-8 and Python has kept the bytes of it."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _above(
    least: float, most: float = math.inf, *, itself: bool = False
) -> Callable[[float | None], float | None]:
    """A check that a number is finite, above ``least`` (or ``itself``), and at most ``most``."""
    end = "" if most == math.inf else f" and at most {most:g}"
    allowed = f"{'at least' if itself else 'above'} {least:g}{end}"

    def check(value: float | None) -> float | None:
        inside = value is None or (least < value < math.inf and value <= most)
        if not (inside or (itself and value == least)):
            raise typer.BadParameter(f"got {value:g}; it must be {allowed}")
        return value

    return check


# Of all commands that build or read a model
Name = Annotated[str, typer.Argument(metavar="NAME", help="An experiment of `gentext list`.")]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        parser=_path,
        metavar="FILE",
        help="What `gentext train` saved, the file or its folder.",
        show_default="the weights that come with gentext",
    ),
]
Seed = Annotated[
    int, typer.Option(min=0, max=2**63 - 1, help="The same number gives the same result.")
]
FullData = Annotated[
    bool, typer.Option("--full-data", help="The whole data set, not the bundled excerpt.")
]

# Of training
TrainSteps = Annotated[
    int | None, typer.Option(min=1, help="Updates of the weights.", show_default="by budget")
]
More = Annotated[
    int | None,
    typer.Option(min=1, help="Updates to add to the training in --out.", show_default=False),
]
TrainOut = Annotated[
    Path | None,
    typer.Option(parser=_path, metavar="FOLDER", show_default="runs/NAME", help="For the result."),
]
Budget = Annotated[
    str | None,
    typer.Option(
        metavar="quick|full", help="A minute, or as long as it takes.", show_default="by device"
    ),
]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Examples in an update.")]
LearningRate = Annotated[
    float | None, typer.Option(callback=_above(0.0), help="The learning rate, such as 1e-3.")
]
Precision = Annotated[
    str | None, typer.Option(metavar="no|fp16|bf16", help="Mixed precision, for GPUs.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from what is in --out.")]

# Of fine-tuning
Labelled = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="Data with classes: digits, mnist, fashion-mnist, emoji, genre-zh or genre-en.",
    ),
]
From = Annotated[
    Path,
    typer.Option(
        "--from",
        parser=_path,
        metavar="CHECKPOINT",
        help="A file, the folder of a training, or weights of `gentext list`, of an encoder: a "
        "VAE, Autoencoder, VQVAE, GAN, Classifier, BERT, or what learnt from pictures alone "
        "(Contrastive, MaskedAutoencoder).",
    ),
]
Method = Annotated[
    str,
    typer.Option(
        metavar="probe|full|lora|l2-sp",
        help="What of the encoder learns: nothing, all of it, low-rank updates, or all of it while "
        "it is pulled back to where it began.",
    ),
]
LabelsPerClass = Annotated[
    int | None,
    typer.Option(min=1, help="Examples of each class to train on.", show_default="all"),
]
FinetuneSteps = Annotated[
    int | None, typer.Option(min=1, help="Most updates of the weights.", show_default="300")
]
FinetuneBatch = Annotated[
    int | None,
    typer.Option("--batch-size", min=1, help="Examples in an update.", show_default="64"),
]
Decay = Annotated[
    float | None,
    typer.Option(
        callback=_above(0.0, 1.0),
        help="Of full and l2-sp: the learning rate of a layer, as a share of that above it.",
        show_default="1",
    ),
]
Pull = Annotated[
    float | None,
    typer.Option(
        callback=_above(0.0), help="Of l2-sp: how strong the pull is.", show_default="0.01"
    ),
]
Rank = Annotated[
    int | None, typer.Option(min=1, help="Of lora: the rank of the updates.", show_default="4")
]
Layers = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Of lora: names of linear layers, or ends of names, with commas between.",
        show_default="q,v of attention, else all",
    ),
]
Patience = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Of 20 looks at the validation data, those without progress before it ends; 0: never.",
        show_default="5",
    ),
]
Baseline = Annotated[
    bool,
    typer.Option(
        "--baseline/--no-baseline",
        help="Compare with a linear classifier of the raw examples, which takes a while.",
    ),
]
FinetuneOut = Annotated[
    Path | None,
    typer.Option(
        parser=_path, metavar="FOLDER", show_default="runs/NAME-METHOD", help="For the result."
    ),
]

# Of sampling
Number = Annotated[
    int | None,
    typer.Option("--n", min=1, help="How many to draw.", show_default="64 images, 1 text"),
]
Mean = Annotated[
    bool, typer.Option("--mean", help="The expected image of each code, without pixel noise.")
]
Prompt = Annotated[
    str | None,
    typer.Option(
        parser=_text,
        metavar="TEXT",
        help="How a text begins, what to translate, or what a picture shows.",
    ),
]
Length = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Most new tokens after the prompt, or of the translation.",
        show_default="what the context holds, else 256",
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        callback=_above(0.0, itself=True),
        help="Below 1 what is likely is preferred; of tokens, 0 the likeliest.",
        show_default="1",
    ),
]
TopK = Annotated[int | None, typer.Option(min=1, help="Draw from the k likeliest tokens.")]
TopP = Annotated[
    float | None, typer.Option(callback=_above(0.0, 1.0), help="Draw from the likeliest share p.")
]
Beam = Annotated[int | None, typer.Option(min=1, help="Beams of a translation.", show_default="1")]
Label = Annotated[str | None, typer.Option(help="The class to draw, its name or number.")]
SampleSteps = Annotated[
    int | None,
    typer.Option(min=1, help="Steps of a diffusion.", show_default="20; of tokens, one each"),
]
Sampler = Annotated[
    str | None,
    typer.Option(metavar="ddpm|ddim|dpm++|heun", help="How.", show_default="dpm++"),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        callback=_above(0.0, itself=True),
        help="How far past the class, 0 for not.",
        show_default="0",
    ),
]
SampleOut = Annotated[
    Path | None,
    typer.Option(
        parser=_path,
        metavar="FILE",
        help="For the result: .png of images, .csv (or .png) of points, .txt of texts.",
        show_default="a file, or print",
    ),
]

# Of measuring
Limit = Annotated[int | None, typer.Option(min=2, help="Test examples to use.", show_default="all")]
Importance = Annotated[
    int, typer.Option("--k", min=0, help="Samples of the importance bound, 0 to leave it out.")
]

# Of data sets
DataName = Annotated[str, typer.Argument(metavar="NAME", help="A name of `gentext data list`.")]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        parser=_path, metavar="FOLDER", help="Where to put it.", show_default="the user's cache"
    ),
]
