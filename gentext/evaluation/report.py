"""``evaluate``: what a model is worth on test data, measured by what the model can compute.

For each kind of model there is one function here. The first protocol of ``KINDS`` that a model
fulfils decides which of them measures it.

Notation: ``log_p`` log p(x) of each example, in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor, nn

from gentext.core import (
    Bound,
    Classifies,
    Compares,
    Density,
    Encodes,
    Model,
    PseudoDensity,
    Samples,
    Translates,
    bare,
    check_count,
    drawing_from,
    evaluating,
)
from gentext.core.shapes import PerExample
from gentext.core.signatures import keep_contract
from gentext.evaluation.estimates import bits_per_dim, mean_and_error
from gentext.evaluation.fidelity import frechet_distance, mmd, mode_coverage, precision_recall
from gentext.evaluation.language import text_bits_per_char, text_perplexity, translation_scores

PART = 256  # examples in one pass
Report = dict[str, float]


@runtime_checkable
class ExampleSet(Protocol):
    """What is read of a data set; ``gentext.data.Dataset`` has it."""

    test: tuple[Tensor, ...]
    shape: tuple[int, ...]
    levels: int | None
    tokenizer: Any
    modes: tuple[Tensor, float] | None


@runtime_checkable
class ImportanceBound(Protocol):
    """Knows a bound that becomes tighter with the number of its samples."""

    def importance_log_prob(
        self, x: Tensor, k: int, *labels: Tensor, generator: Generator | None = None
    ) -> PerExample:
        """The ``k``-sample bound of log p(x), in nats."""


@dataclass(frozen=True)
class Trial:
    """What a model is measured on, and with what."""

    data: ExampleSet
    test: tuple[Tensor, ...]  # the examples, then labels or targets
    generator: Generator
    k: int
    features: Any

    @property
    def x(self) -> Tensor:
        """The examples."""
        return self.test[0]


@torch.no_grad()
def evaluate(
    model: nn.Module,
    data: Any,
    *,
    seed: int = 0,
    limit: int | None = None,
    k: int = 100,
    features: Model | None = None,
) -> Report:
    """What ``model`` can compute of the test examples of ``data``, averaged over them.

    What ``torch.compile``, ``DataParallel`` or ``DDP`` put around it is taken off.

    Arguments:
        data: a ``Dataset``, whose ``test`` is not empty.
        seed: the same one gives the same numbers.
        limit: takes only the first examples.
        k: samples of the importance bound; 0 leaves out this bound, which takes longest.
        features: a classifier of the same images, in whose features samples are compared.

    Gives, where there is one, the exact ``log_prob`` or else ``elbo`` and the ``k``-sample bound
    ``iw_bound`` in nats, each with its ``bits_per_dim`` (for data with grey levels), the standard
    error ``se`` of the last and the number ``n`` of examples. For texts there are ``perplexity``
    for each token (the end of a text is one) and ``bits_per_char`` (there it is none), or from
    masked models ``pseudo_log_prob`` and ``pseudo_perplexity``; for translations ``bleu`` and
    ``chrf``, both from 0 to 100, and the share ``exact`` of those that are the reference; from
    classifiers ``accuracy``. Of models that can do no more than draw, as many samples as there are
    test examples are compared with these: in the features of a classifier by ``frechet``,
    ``precision`` and ``recall``, and the share ``accuracy`` of those that it puts in the class
    they were drawn for; without one by ``modes``, ``near`` and ``reverse_kl`` where the modes of
    the data are known, or else by ``mmd``. Of a model that compares the examples of a batch there
    is the loss of all test examples in one, beside that of ``guessing``.

    Raises:
        ValueError: ``model`` is none of gentext, ``data`` is no data set or has no test examples,
            or a number is impossible.
    """
    own = bare(model)
    check_count("k", k, least=0)
    _check_data(data)
    device = next(own.parameters()).device
    test = tuple(t[:limit].to(device) for t in data.test)
    trial = Trial(data, test, Generator(device).manual_seed(seed), k, features)
    measure = next((m for kind, m in KINDS.items() if isinstance(own, kind)), of_loss)
    with evaluating(own):
        return measure(own, trial)


def _check_data(data: Any) -> None:
    """Raise ValueError unless ``data`` is a data set with test examples."""
    if not isinstance(data, ExampleSet):
        raise ValueError(
            f"got data of type {type(data).__name__}; give a data set: for tensors of your own "
            "gentext.data.Dataset(name='own', train=(x,), test=(x,), shape=x.shape[1:])"
        )
    if not data.test:
        raise ValueError("the data have no test examples; give a data set with test=(x,)")


def of_translations(model: Translates, trial: Trial) -> Report:
    """How near greedy translations come to the references."""
    source, target = trial.test
    decode = trial.data.tokenizer.decode
    made = [decode(row) for part in source.split(PART) for row in model.translate(part).tolist()]
    return {**translation_scores(made, list(map(decode, target.tolist()))), "n": len(made)}


def of_density(model: Density, trial: Trial) -> Report:
    """The exact log-density; of texts also for each token and character."""
    log_p = torch.cat([model.log_prob(part) for part in trial.x.split(PART)])
    report = _averaged({"log_prob": log_p}, trial.data)
    if trial.data.tokenizer is not None:
        report["perplexity"] = text_perplexity(log_p, trial.x, _pad(model))
        report["bits_per_char"] = text_bits_per_char(log_p, trial.x, trial.data.tokenizer)
    return report


def of_pseudo_density(model: PseudoDensity, trial: Trial) -> Report:
    """The sum of log p(part | the other parts); of texts also for each token."""
    log_p = torch.cat([model.pseudo_log_prob(part) for part in trial.x.split(PART)])
    report = _averaged({"pseudo_log_prob": log_p}, trial.data)
    if trial.data.tokenizer is not None:
        report["pseudo_perplexity"] = text_perplexity(log_p, trial.x, _pad(model))
    return report


def of_bound(model: Bound, trial: Trial) -> Report:
    """The bound, and the tighter one of ``k`` samples where the model has it."""
    bounds = {"elbo": model.elbo(*trial.test, generator=trial.generator)}
    if isinstance(model, ImportanceBound) and trial.k:
        x, *labels = trial.test
        bounds["iw_bound"] = model.importance_log_prob(
            x, trial.k, *labels, generator=trial.generator
        )
    return _averaged(bounds, trial.data)


def of_samples(model: Samples, trial: Trial) -> Report:
    """As many samples as there are test examples, compared with these."""
    made = _drawn(model, trial)
    if trial.features is not None:
        report = _by_features(trial.features, made, trial)
    elif trial.data.modes is not None:
        found = mode_coverage(made, *trial.data.modes)._asdict()
        report = {name: float(value) for name, value in found.items()}
    else:
        report = {"mmd": float(mmd(trial.x.flatten(1), made.flatten(1)))}
    return report | {"n": len(trial.x)}


def of_classifier(model: Any, trial: Trial) -> Report:
    """The loss, and the share of the examples that are put in their class."""
    return of_loss(model, trial) | {"accuracy": _accuracy(model, *trial.test)}


def of_loss(model: Model, trial: Trial) -> Report:
    """The loss of each example, of a model that can do nothing else."""
    with drawing_from(trial.generator):
        each = [model.loss(*(t[i : i + 1] for t in trial.test)) for i in range(len(trial.x))]
    return _averaged({"loss": torch.stack(each)}, trial.data)


def of_comparison(model: Any, trial: Trial) -> Report:
    """The loss of all examples as one batch, and that of guessing."""
    with drawing_from(trial.generator):
        loss = float(model.loss(*trial.test).detach())
    return {"loss": loss, "guessing": model.guessing(len(trial.x)), "n": len(trial.x)}


KINDS: Mapping[type, Callable[[Any, Trial], Report]] = {  # the first that fits, or else the loss
    Translates: of_translations,
    Density: of_density,
    PseudoDensity: of_pseudo_density,
    Bound: of_bound,
    Classifies: of_classifier,
    Samples: of_samples,
    Compares: of_comparison,
}


def _drawn(model: Any, trial: Trial) -> Tensor:
    """A sample for each test example, of its class where it has one."""
    parts = zip(*(t.split(PART) for t in trial.test), strict=True)
    samples = [model.sample(len(x), *labels, generator=trial.generator) for x, *labels in parts]
    return torch.cat(samples)


def _by_features(classifier: Any, made: Tensor, trial: Trial) -> Report:
    """Samples and examples compared in what a classifier sees of them."""
    x, *labels = trial.test
    with evaluating(classifier):
        real, fake = (_encoded(classifier, rows) for rows in (x, made))
        report = {"frechet": float(frechet_distance(real, fake))}
        report |= precision_recall(real, fake)._asdict()
        if labels:
            report["accuracy"] = _accuracy(classifier, made, *labels)
    return report


def _encoded(model: Encodes, x: Tensor) -> Tensor:
    """The codes of the examples, a part at a time."""
    return torch.cat([model.encode(part) for part in x.split(PART)])


def _accuracy(model: Classifies, x: Tensor, y: Tensor) -> float:
    """The share of the examples that are put in their class, a part at a time."""
    pairs = zip(x.split(PART), y.split(PART), strict=True)
    return sum(float(model.accuracy(*pair)) * len(pair[1]) for pair in pairs) / len(y)


def _averaged(values: Mapping[str, PerExample], data: ExampleSet) -> Report:
    """Means of ``values``, with bits per dimension of what is no loss, for data with levels."""
    report: Report = {}
    for name, value in values.items():
        value = value.detach()
        report[name], report["se"] = mean_and_error(value)
        if data.levels and name != "loss":
            bits = bits_per_dim(value.mean(), math.prod(data.shape))
            report[f"{name}_bits_per_dim"] = float(bits)
    return report | {"n": len(next(iter(values.values())))}


def _pad(model: Any) -> int | None:
    """The token that fills rows and that the model does not read."""
    return getattr(model, "pad", None)


keep_contract(globals())
