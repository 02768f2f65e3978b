"""The trained model that a command is about, and what its file says of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

    from gentext.tokens.tokenizer import Tokenizer


class TrainingData(NamedTuple):
    """What the data were: name, shape of an example, of the image whose pixels are tokens, ...

    ``train`` is how many there were for training.
    """

    name: str | None = None
    shape: tuple[int, ...] = ()
    image_shape: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    levels: int | None = None
    train: int | None = None


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained model called ``name``, the ``file`` it was read from, and what that says.

    ``tokenizer`` is None except for models of texts, ``data`` None for files that do not say.
    """

    name: str
    file: Path
    model: Any
    tokenizer: Tokenizer | None = None
    data: TrainingData | None = None

    @property
    def device(self) -> torch.device:
        """Where the model stands."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example, as far as file or model know it."""
        return self.data.shape if self.data else tuple(getattr(self.model, "shape", ()))

    def known(self, wanted: str) -> TrainingData:
        """``data``; raises ValueError where the file does not say what is ``wanted`` of them."""
        if self.data is None:
            raise ValueError(
                f"{self.file} does not say {wanted}; train it anew by `gentext train`, or write "
                "it once more in Python: gentext.checkpoint.save(path, model, data=dataset)"
            )
        return self.data


def load(name: str, checkpoint: Path | None = None) -> Trained:
    """The model ``name`` from ``checkpoint``, a file or its folder, or from the zoo.

    It is on the accelerator if there is one. Raises ValueError if there are no such weights, or if
    those of the file were trained as another experiment.
    """
    if checkpoint is None:
        return _read(name, _bundled(name), bundled=True)
    return _read(name, inside(checkpoint))


def encoder(given: Path) -> Trained:
    """The model that another task begins from: weights of the zoo by name, a file or its folder.

    Raises ValueError where there is none, and where it cannot encode, with those that can.
    """
    from gentext import zoo
    from gentext.core import Encodes

    bundled = str(given) in zoo.names() and not given.exists()
    if not (bundled or inside(given).is_file()):
        raise ValueError(
            f"there is no checkpoint {given}, and no weights of that name come with gentext; "
            f"{_encoders_there()}"
        )
    found = _read(None, zoo.path(str(given)) if bundled else inside(given), bundled=bundled)
    if not isinstance(found.model, Encodes):
        raise ValueError(
            f"{given} holds a {type(found.model).__name__}, which cannot encode, so there are no "
            f"features to build on; {_encoders_there()}"
        )
    return found


def encoders() -> list[str]:
    """The names of the weights of the zoo whose features can be trained further."""
    import gentext
    from gentext import zoo
    from gentext.core import Represents
    from gentext.training import checkpoint as files

    kinds = {name: files.info(zoo.path(name))["class"].split(":")[-1] for name in zoo.names()}
    return [name for name, kind in kinds.items() if issubclass(getattr(gentext, kind), Represents)]


def _encoders_there() -> str:
    there = ", ".join(encoders()) or "none"
    return f"encoders that come with it are {there}; or give what you trained"


def _read(name: str | None, file: Path, *, bundled: bool = False) -> Trained:
    """The model in ``file``, under its own name if none is given."""
    from accelerate import PartialState

    from gentext.tokens import tokenizer
    from gentext.training import checkpoint as files

    header = files.info(file)
    if header["arguments"] is None:
        raise ValueError(
            f"{file} holds a model built from networks of its maker, which the command line does "
            "not know; use it in Python"
        )
    model = files.load(file)
    made, text = header["recipe"], header.get("tokenizer")
    if None not in (name, made) and made != name:
        raise ValueError(f"{file} was trained as {made!r}, not {name!r}; give its own name")
    return Trained(
        name=name or (file.stem if bundled else str(file)),
        file=file,
        model=model.to(PartialState().device),
        tokenizer=None if text is None else tokenizer.from_json(text),
        data=_described(_card(file.stem) if bundled else header.get("data")),
    )


def _bundled(name: str) -> Path:
    """The file of the zoo."""
    from gentext import recipes, zoo
    from gentext.core import chosen

    if name in recipes.RECIPES and name not in zoo.names():
        raise ValueError(
            f"no trained weights of {name!r} come with gentext; train it by "
            f"`gentext train {name}` and give --checkpoint {Path('runs') / name}"
        )
    chosen("experiment", name, {*zoo.names(), *recipes.RECIPES}, "`gentext list`")
    return zoo.path(name)


def inside(checkpoint: Path) -> Path:
    """The file that is meant by itself or by its folder."""
    from gentext.training import saver

    return checkpoint / saver.NAME if checkpoint.is_dir() else checkpoint


def _card(name: str) -> dict[str, Any]:
    from gentext import zoo

    entry: dict[str, Any] = zoo.card(name)["data"]
    return entry


def _described(entry: dict[str, Any] | None) -> TrainingData | None:
    """What a header or a card says of the data, None where it says nothing."""
    if entry is None or "shape" not in entry:
        return None
    known = {key: entry[key] for key in TrainingData._fields if entry.get(key) is not None}
    plain: Any = {key: tuple(v) if isinstance(v, list) else v for key, v in known.items()}
    return TrainingData(**plain)
