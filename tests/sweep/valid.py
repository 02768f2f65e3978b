"""Valid arguments of every subject: by the name of the method, its class, its module, or any.

``TABLE`` says what a parameter is given where it has no default or where something hostile should
begin from more than the default. A value that is ``Fresh`` is made anew for each call.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gentext
from tests.sweep.subjects import Subject, subjects

TMP = Path("sweep_files")  # in the working directory, which is a temporary one
TEXTS = ["spring dawn", "a cat sat on the mat", "春眠不觉晓"]


@dataclass(frozen=True)
class Fresh:
    """What makes a value, for those that a call may change or use up."""

    make: Callable[[], Any]


def row(**values: Any) -> dict[str, Any]:
    """Arguments by name."""
    return values


def floats(*shape: int) -> Tensor:
    """Values between 0 and 1, the same each time."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(len(shape)))


def wholes(most: int, *shape: int) -> Tensor:
    """Whole numbers below ``most``, the same each time."""
    return torch.randint(most, shape, generator=torch.Generator().manual_seed(len(shape)))


def made(name: str, **more: Any) -> Fresh:
    """A model of a subject, built from its valid arguments."""
    return Fresh(lambda: instance(subjects()[name].function, name, **more))


def level(alpha: float, sigma: float) -> Fresh:
    def make() -> Any:
        return gentext.schedule.Level(torch.tensor(alpha), torch.tensor(sigma))

    return Fresh(make)


def attribute(path: str) -> Fresh:
    """What is at ``path`` of gentext."""
    return Fresh(lambda: functools.reduce(getattr, path.split("."), gentext))


def call(path: str, *arguments: Any, **named: Any) -> Fresh:
    """What a function of gentext gives for plain arguments."""
    return Fresh(lambda: functools.reduce(getattr, path.split("."), gentext)(*arguments, **named))


X, Z, T4 = floats(4, 3), floats(4, 2), floats(4)
IMAGES = (floats(4, 1, 4, 4) * 3).round() / 3
TOKENS = wholes(5, 4, 6)
LABELS = wholes(2, 4)
P2 = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
FIELD = row(velocity=lambda x, t: -x, prior_log_prob=lambda z: -z.square().flatten(1).sum(1))
VAE = row(
    shape=(1, 2, 2),
    latent=2,
    hidden=8,
    x=(floats(4, 1, 2, 2) > 0.5).float(),
    z=Z,
    a=floats(4, 1, 2, 2),
    b=floats(4, 1, 2, 2),
    k=2,
    steps=2,
)
IMAGE_VAE = row(
    shape=(1, 4, 4),
    channels=2,
    hidden=4,
    levels=4,
    x=IMAGES,
    z=floats(4, 2, 1, 1),
    a=IMAGES,
    b=IMAGES,
)
GAN = row(shape=(3,), latent=2, z=Z, a=floats(2), b=floats(2), steps=3, turn="critic_loss", step=0)
LM = row(vocab_size=5, tokens=TOKENS, capacity=8, token=TOKENS[:, 0], length=6, room=0)
TRANSFORMER = row(width=4, heads=2, layers=1, x=floats(2, 3, 4), memory=floats(2, 5, 4), capacity=4)
DENOISER = row(
    shape=(1, 4, 4),
    x=IMAGES,
    levels=4,
    steps=6,
    net="mlp",
    t=wholes(6, 4),
    x_t=floats(4, 1, 4, 4),
    x_0=floats(4, 1, 4, 4),
    mask=floats(4, 1, 4, 4) > 0.5,
    terms=2,
)
FLOW = row(features=3, hidden=(8,), transforms=2, bins=4)
LIKELIHOOD = row(shape=(1, 2, 2), levels=4, x=(floats(4, 1, 2, 2) * 3).round() / 3)


def _tiny_data(side: int = 4) -> Any:
    rows = (floats(8, 1, side, side) * 3).round() / 3
    parts = row(
        train=(rows, wholes(2, 8)), test=(rows, wholes(2, 8)), validation=(rows, wholes(2, 8))
    )
    return gentext.data.Dataset(
        name="tiny", shape=(1, side, side), classes=("a", "b"), levels=4, **parts
    )


def _tiny_corpus() -> Any:
    parts = row(train=tuple(TEXTS), validation=tuple(TEXTS), test=tuple(TEXTS), notes={})
    return gentext.text.Corpus(name="tiny", licence="CC0", source="made up", **parts)


def _tiny_pairs() -> Any:
    both = tuple((text, text) for text in TEXTS)
    parts = row(train=both, validation=both, test=both, notes={})
    return gentext.text.Corpus(name="tiny", licence="CC0", source="made up", **parts)


def _tiny_story() -> Any:
    story = ("spring. dawn. a cat. sat on. the mat. a cat.",)
    parts = row(train=story, validation=story, test=story, notes={})
    return gentext.text.Corpus(name="tiny", licence="CC0", source="made up", **parts)


def _trial(data: Any = None) -> Any:
    data = data or _tiny_data()
    generator = torch.Generator().manual_seed(0)
    return gentext.report.Trial(data, data.test, generator, 2, None)


def _spline() -> tuple[Any, Any]:
    knots = gentext.spline.make_knots(floats(11, 3), 2.0)
    return knots, gentext.spline.find_bins(knots, floats(3))


def _checkpoint() -> Path:
    TMP.mkdir(exist_ok=True)
    return gentext.checkpoint.save(TMP / "made.safetensors", made("made.MADE").make())


def _text_file() -> Path:
    TMP.mkdir(exist_ok=True)
    path = TMP / "text.txt"
    path.write_text("\n".join(f"{k} {text}" for k in range(20) for text in TEXTS), "utf-8")
    return path


def _place() -> Path:
    TMP.mkdir(exist_ok=True)
    return TMP / "grid.png"


def _figure() -> Any:
    return gentext.plot.figure()[0]


def _png() -> list[bytes]:
    return [gentext.plot.png(_figure())] * 2


TOKENIZER = Fresh(lambda: gentext.tokenizer.CharTokenizer.fit(TEXTS))
SCORE = row(score=lambda x, t: -x, process=Fresh(lambda: gentext.langevin.VP()))
LSTM = (floats(8, 3), floats(8, 2), floats(8), floats(8))
CACHE = call("attention.MultiHeadAttention", 4, 2)


def instance(kind: Callable[..., Any], name: str, **more: Any) -> Any:
    """An object of the class ``name``, from its valid arguments; the same weights each time."""
    torch.manual_seed(0)
    given, rest = arguments(subjects()[name])
    return kind(*rest, **{**given, **more})


@functools.cache
def _pristine(name: str) -> Any:
    return instance(subjects()[name].function, name)


def owner(subject: Subject) -> Any:
    """The object whose method ``subject`` is."""
    name = subject.name.rpartition(".")[0]
    special = _found(subject, "self")
    if special is not None:
        return special
    try:
        return copy.deepcopy(_pristine(name))
    except TypeError:  # what holds a generator, or the like
        return instance(subjects()[name].function, name)


def _keys(subject: Subject) -> list[str]:
    """Where to look, the nearest first."""
    kind = subject.owner or (subject.function if inspect.isclass(subject.function) else None)
    if kind is None and inspect.ismethod(subject.function):
        kind = subject.function.__self__
    stem = subject.name.partition(".")[0]
    if kind is None:
        return [subject.name, stem, ""]
    classes = [f"{c.__module__.rpartition('.')[2]}.{c.__name__}" for c in kind.__mro__]
    inner = [f"{c}.{subject.method}" for c in classes if subject.method]
    made_by = [f"{classes[0]}.__init__"] if subject.function is kind else []
    return [*made_by, subject.name, *inner, *classes, stem, ""]


def _found(subject: Subject, parameter: str) -> Any:
    from tests.sweep.table import TABLE

    for key in _keys(subject):
        if parameter in TABLE.get(key, {}):
            value = TABLE[key][parameter]
            return value.make() if isinstance(value, Fresh) else copy.deepcopy(value)
    return None


def arguments(subject: Subject) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """Valid arguments by name, and those that have no name; defaults are left out."""
    given = {}
    for name, parameter in subject.parameters.items():
        value = _found(subject, name)
        if value is not None and (parameter.default is parameter.empty or _wanted(subject, name)):
            given[name] = value
    more = _found(subject, "**") or {}
    rest = tuple(_found(subject, "*") or ())
    if subject.function is getattr(gentext.core.Model, "forward", None) and not rest:
        loss = subjects()[subject.name.replace(".forward", ".loss")]
        return given, tuple(arguments(loss)[0].values())
    return {**given, **more}, rest


def called(subject: Subject, of: Any, given: dict[str, Any], rest: tuple[Any, ...]) -> Any:
    """What the subject, a method of ``of`` where it is one, gives; unnamed arguments come last."""
    first = [] if subject.owner is None else [of]
    if rest:
        kinds = {name: p.kind for name, p in subject.parameters.items()}
        places = [n for n, kind in kinds.items() if kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
        first += [given[name] for name in places if name in given]
        given = {name: value for name, value in given.items() if name not in places}
    return subject.function(*first, *rest, **given)


def _wanted(subject: Subject, name: str) -> bool:
    """Whether a parameter that has a default is given all the same: where the table is near."""
    from tests.sweep.table import TABLE

    near = _keys(subject)[:-1]
    return any(name in TABLE.get(key, {}) for key in near)


def missing() -> list[str]:
    """Parameters that must be given and for which the table has no value."""
    from tests.sweep.table import TABLE

    return [
        f"{subject.name}({name})"
        for subject in subjects().values()
        for name, parameter in subject.parameters.items()
        if parameter.default is parameter.empty
        and not any(name in TABLE.get(key, {}) for key in _keys(subject))
    ]
