"""What trained models make: one class for each kind of output.

A kind knows which options it heeds, how its examples are drawn, and how they are written.
"""

from __future__ import annotations

import csv
import inspect
import io
from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar

import torch
import typer
from torch import Tensor

from gentext.cli import places
from gentext.cli.trained import Trained
from gentext.core import Generates, Samples, Translates, sample_options
from gentext.data.prepared import PROMPT
from gentext.denoising.masked_diffusion import MaskedDiffusion
from gentext.figures import plot
from gentext.tokens import tokenizer
from gentext.tokens.completion import check_fits, complete

GIVEN = {"label", "prompt"}  # what an image may be asked to show
UNLIMITED = 256  # tokens of a text where nothing else limits it


def output_of(trained: Trained) -> Output:
    """What a model makes; raises ValueError for one that draws nothing."""
    model = trained.model
    if isinstance(model, Translates):
        return Translations(trained)
    if isinstance(model, Generates):
        return Pixels(trained) if trained.tokenizer is None else Texts(trained)
    if isinstance(model, Samples):
        return Images(trained) if len(trained.shape) == 3 else Rows(trained)
    raise ValueError(f"a {type(model).__name__} cannot draw samples; choose another experiment")


def heeded(model: Any, method: str) -> set[str]:
    """The names of the options that a method of a model heeds."""
    if method == "sample":
        return set(sample_options(model))
    return set(inspect.signature(getattr(model, method)).parameters)


class Output:
    """A kind of output, of one trained model; subclasses draw it and write it.

    ``ALWAYS`` are the options that the kind heeds, ``IF_TAKEN`` those that it heeds where the
    ``METHOD`` of the model takes them. ``SUFFIXES`` are those of the files it is written to.
    """

    KIND: ClassVar[str]
    METHOD: ClassVar[str]
    ALWAYS: ClassVar[frozenset[str]]
    IF_TAKEN: ClassVar[frozenset[str]] = frozenset()
    SUFFIXES: ClassVar[tuple[str, ...]]

    def __init__(self, trained: Trained) -> None:
        self.trained, self.model = trained, trained.model

    @property
    def options(self) -> set[str]:
        """The names of the options that are heeded."""
        return {*self.ALWAYS, *(self.IF_TAKEN & heeded(self.model, self.METHOD))}

    def check_place(self, out: Path | None) -> None:
        """Raise ValueError unless the output can be written to the file ``out``."""
        if out is not None:
            places.check(out, self.SUFFIXES, self.KIND)

    def draw(self, given: dict[str, Any], seed: int) -> Any:
        """What is to be written, drawn as the ``given`` options say.

        Raises ValueError for an option that is not heeded.
        """
        self._check(given)
        generator = torch.Generator(self.trained.device).manual_seed(seed)
        with torch.no_grad():
            return self._draw(generator=generator, **given)

    def write(self, drawn: Any, out: Path | None) -> None:
        """Print it, or write it to the file ``out`` and say so."""
        raise NotImplementedError

    def _draw(self, *, generator: torch.Generator, **how: Any) -> Any:
        raise NotImplementedError

    def _check(self, given: Collection[str]) -> None:
        for option in given:
            if option not in self.options:
                taken = ", ".join(f"--{_spelt(key)}" for key in sorted(self.options))
                raise ValueError(
                    f"{self.trained.name} makes {self.KIND} and takes no --{_spelt(option)}; leave "
                    f"it out (it takes {taken})"
                )


class Texts(Output):
    """Texts that go on from a prompt."""

    KIND, METHOD, SUFFIXES = "texts", "generate", (".txt", ".md")
    ALWAYS = frozenset({"n", "prompt", "length", "temperature", "top_k", "top_p"})
    IF_TAKEN = frozenset({"steps"})

    def _draw(
        self, *, n: int = 1, prompt: str = "", length: int | None = None, **how: Any
    ) -> list[str]:
        reader: Any = self.trained.tokenizer
        length = self._length(length, len(reader.encode(prompt)))
        return [complete(self.model, reader, prompt, length, **how) for _ in range(n)]

    def write(self, drawn: list[str], out: Path | None) -> None:
        """Print the texts, or write them to a file, with an empty line between."""
        joined = "\n\n".join(drawn)
        if out is None:
            typer.echo(joined)
            return
        content = (joined + "\n").encode()
        typer.echo(f"saved {plot.write_whole(places.made(out), content)}")

    def _length(self, asked: int | None, begun: int) -> int:
        """How many tokens to write after ``begun`` of the prompt: what the context still holds.

        Models that look back without end write UNLIMITED. All but those that fill rows of one
        length go on beyond the context if ``asked`` to.
        """
        context = self.model.context
        if context is None:
            return asked or UNLIMITED
        if begun >= context:
            raise ValueError(
                f"the --prompt has {begun} tokens, but {self.trained.name} goes on from "
                f"{context - 1} at most; give only its end"
            )
        rest: int = context - begun
        if asked is not None and asked > rest and isinstance(self.model, MaskedDiffusion):
            raise ValueError(
                f"got --length {asked}, but after this prompt {self.trained.name} writes {rest} "
                "tokens at most; ask for fewer"
            )
        return asked or rest


class Translations(Texts):
    """The translation of a prompt."""

    KIND, METHOD = "translations", "translate"
    ALWAYS = frozenset({"prompt", "length", "beam"})
    IF_TAKEN = frozenset()

    def _draw(
        self, *, prompt: str = "", length: int | None = None, beam: int = 1, **how: Any
    ) -> list[str]:
        if not prompt:
            raise ValueError("there is nothing to translate; give --prompt TEXT")
        reader = _reader(self.trained)
        tokens = [*reader.encode(prompt), tokenizer.EOS]
        if len(tokens) > self.model.context:
            raise ValueError(
                f"the --prompt has {len(tokens)} tokens with its end, but {self.trained.name} "
                f"reads at most {self.model.context}; translate it in parts"
            )
        if length is not None and length > self.model.context:
            raise ValueError(
                f"got --length {length}, but {self.trained.name} writes {self.model.context} "
                "tokens at most; ask for fewer"
            )
        source = torch.tensor([tokens], device=self.trained.device)
        made = self.model.translate(source, width=beam, length=length)
        return [reader.decode(row) for row in made.tolist()]


class Examples(Output):
    """Examples as ``sample`` draws them, of a class where the model knows classes."""

    METHOD = "sample"
    ALWAYS = frozenset({"n"})

    @property
    def options(self) -> set[str]:
        """The names of the options that are heeded."""
        labelled = self._classes and "y" in heeded(self.model, self.METHOD)
        return super().options | ({"label"} if labelled else set())

    def _draw(self, *, n: int = 64, label: str | None = None, **how: Any) -> Tensor:
        if label is not None:
            how["y"] = torch.full((n,), self._number(label), device=self.trained.device)
        if how.get("guidance") and "y" not in how:
            given = " or ".join(f"--{option}" for option in sorted(self.options & GIVEN))
            raise ValueError(
                f"--guidance goes past what is asked for; give {given}, or leave it out"
            )
        drawn: Tensor = self.model.sample(n, **how)
        return drawn.cpu()

    @property
    def _classes(self) -> int:
        return getattr(self.model, "classes", 0)

    def _number(self, label: str) -> int:
        """The number of a class that is given by its name or by the number itself."""
        if not label.isdecimal():
            self.trained.known(f"what its classes are called (numbers: 0 to {self._classes - 1})")
        names = self.trained.data.classes if self.trained.data else ()
        if label in names:
            return names.index(label)
        if label.isdecimal() and int(label) < self._classes:
            return int(label)
        there = ", ".join(names or map(str, range(self._classes)))
        raise ValueError(
            f"{self.trained.name} has no class {label!r}; choose one of {there}, or its number"
        )


class Rows(Examples):
    """Rows of a table."""

    KIND, SUFFIXES = "rows", (".csv", ".png")
    IF_TAKEN = frozenset({"temperature", "steps", "sampler"})

    def check_place(self, out: Path | None) -> None:
        """Raise ValueError unless ``out`` can be written, as a picture only of points."""
        super().check_place(out)
        if out is not None and out.suffix.lower() == ".png" and self.trained.shape != (2,):
            raise ValueError(f"only points in the plane make a picture; give --out {out.stem}.csv")

    def write(self, drawn: Tensor, out: Path | None) -> None:
        """Write examples (n, features) as comma-separated values under the names x1, x2, ...

        Points (n, 2) may also become a picture.
        """
        path = places.made(out or Path("rows.csv"))
        content = _scattered(drawn) if path.suffix.lower() == ".png" else _table(drawn)
        typer.echo(f"saved {plot.write_whole(path, content)}")


def _table(drawn: Tensor) -> bytes:
    """Rows as comma-separated values."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(f"x{column + 1}" for column in range(drawn.shape[1]))
    writer.writerows([f"{value:.6g}" for value in row] for row in drawn.tolist())
    return text.getvalue().encode()


def _scattered(drawn: Tensor) -> bytes:
    """Points in the plane as a picture."""
    plot.use_style()
    ax = plot.latent_map(drawn)
    ax.set(xlabel="$x_1$", ylabel="$x_2$")
    return plot.png(ax)


class Images(Examples):
    """Images, of a class or of what a prompt says."""

    KIND, SUFFIXES = "images", (".png",)
    IF_TAKEN = frozenset({"mean", "temperature", "steps", "sampler", "guidance"})

    @property
    def options(self) -> set[str]:
        """The names of the options that are heeded."""
        prompted = {"prompt"} if getattr(self.model, "vocab_size", 0) else set()
        options = super().options | prompted
        return options if options & GIVEN else options - {"guidance"}

    def _draw(self, *, n: int = 64, prompt: str | None = None, **how: Any) -> Tensor:
        if prompt is not None:
            rows = tokenizer.rows(_reader(self.trained), [prompt] * n, PROMPT, strict=True)
            how["y"] = rows.to(self.trained.device)
        return super()._draw(n=n, **how)

    def write(self, drawn: Tensor, out: Path | None) -> None:
        """Write the images (n, c, h, w) as one picture."""
        typer.echo(f"saved {plot.save_grid(drawn, places.made(out or Path('grid.png')))}")


class Pixels(Output):
    """Images of which each token is a pixel."""

    KIND, METHOD, SUFFIXES = "pixels", "generate", Images.SUFFIXES
    ALWAYS = frozenset({"n", "temperature", "top_k", "top_p"})
    IF_TAKEN = frozenset({"steps"})

    def _draw(self, *, n: int = 64, **how: Any) -> Tensor:
        data = self.trained.known("of which images its tokens are the pixels")
        if not data.image_shape:
            raise ValueError(f"{self.trained.name} makes neither texts nor images to be shown")
        empty = torch.empty(n, 0, dtype=torch.long, device=self.trained.device)
        tokens: Tensor = self.model.generate(empty, *data.shape, **how)
        most = (data.levels or 2) - 1
        return (tokens.clamp(max=most) / most).reshape(-1, *data.image_shape).cpu()

    write = Images.write


def _reader(trained: Trained) -> tokenizer.Tokenizer:
    """The tokenizer that reads prompts; raises ValueError where it is missing or another's."""
    if trained.tokenizer is None:
        raise ValueError("this checkpoint has no tokenizer to read a prompt with; leave it out")
    check_fits(trained.model, trained.tokenizer)
    return trained.tokenizer


def _spelt(option: str) -> str:
    return option.replace("_", "-")
