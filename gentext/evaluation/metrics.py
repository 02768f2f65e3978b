"""What a model is worth in numbers: likelihoods in nats and bits, and their uncertainty.

What compares samples with data stands in ``fidelity`` and can be named here as well.

Notation: ``log_p`` log p(x) of each example, in nats; D the number of values of an example.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gentext.core import Bound, Density, Model, Samples
from gentext.core.draws import drawing_from
from gentext.core.shapes import PerExample
from gentext.evaluation.fidelity import Coverage as Coverage
from gentext.evaluation.fidelity import PrecisionRecall as PrecisionRecall
from gentext.evaluation.fidelity import c2st as c2st
from gentext.evaluation.fidelity import frechet_distance as frechet_distance
from gentext.evaluation.fidelity import mmd as mmd
from gentext.evaluation.fidelity import mode_coverage as mode_coverage
from gentext.evaluation.fidelity import precision_recall as precision_recall


def bits_per_dim(log_p: Tensor, dims: int) -> Tensor:
    """−log p(x)/(D ln 2): log-probabilities in nats as bits for each of ``dims`` values.

    Equation: :eq:`eq-data-bpd`
    """
    if dims < 1:
        raise ValueError(f"dims must be at least 1, but got {dims}")
    return -log_p / (dims * math.log(2))


PART = 256  # examples in one pass


class Estimate(NamedTuple):
    """A mean and its standard error."""

    mean: float
    se: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.se:.3f}"


def mean_and_error(values: PerExample) -> Estimate:
    """The mean of one number an example, and its standard error."""
    if len(values) < 2:
        raise ValueError(f"a standard error needs at least 2 values, but got {len(values)}")
    return Estimate(float(values.mean()), float(values.std() / math.sqrt(len(values))))


def paired_difference(a: PerExample, b: Tensor) -> Estimate:
    """The mean of a − b on the same examples, and its standard error sd(a − b)/√N."""
    if a.shape != b.shape:
        raise ValueError(
            f"a pair needs the same examples in both, but got {len(a)} and {len(b)} values"
        )
    return mean_and_error(a - b)


@torch.no_grad()
def evaluate(
    model: Model,
    data: Any,
    *,
    seed: int = 0,
    limit: int | None = None,
    k: int = 100,
    features: Model | None = None,
) -> dict[str, float]:
    """What ``model`` can compute of the test examples of ``data``, averaged over them.

    Gives, where there is one, the exact ``log_prob`` or else ``elbo`` and the ``k``-sample bound
    ``iw_bound`` in nats, each with its ``bits_per_dim`` (for data with grey levels), the standard
    error ``se`` of the last and the number ``n`` of examples. For texts there are ``perplexity``
    for each token (the end of a text is one) and ``bits_per_char`` (there it is none), or from
    masked models ``pseudo_log_prob`` and ``pseudo_perplexity``; for translations ``bleu`` and
    ``chrf``, both from 0 to 100, and the share ``exact`` of those that are the reference; from
    classifiers ``accuracy``. Of models that can do no more than draw, as many samples as there are
    test examples are compared with these: in the features of a classifier ``features`` of the same
    images by ``frechet``, ``precision`` and ``recall``, and the share ``accuracy`` of those that it
    puts in the class they were drawn for; without one by ``modes``, ``near`` and ``reverse_kl``
    where the modes of the data are known, or else by ``mmd``. The same ``seed`` gives the same
    numbers. ``limit`` takes only the first examples; ``k`` = 0 leaves out ``iw_bound``, which takes
    longest.
    """
    if k < 0:
        raise ValueError(f"got k={k} samples; give at least 1, or 0 to leave out the bound")
    device = next(model.parameters()).device
    test = tuple(t[:limit].to(device) for t in data.test)
    generator = torch.Generator(device).manual_seed(seed)
    model.eval()
    if hasattr(model, "translate"):
        return _translations(model, data.tokenizer, *test)
    if _only_draws(model):
        return _of_samples(model, data, test, generator, features)
    values = _values(model, test, generator, k)
    report = _summary(values, math.prod(data.shape), data.levels)
    if hasattr(model, "accuracy"):
        report["accuracy"] = _accuracy(model, *test)
    if data.tokenizer is not None:
        report |= _of_texts(values, test[0], data.tokenizer, getattr(model, "pad", None))
    return report


def _only_draws(model: Model) -> bool:
    """Whether the model draws samples and knows no likelihood of any kind."""
    likelihood = isinstance(model, Density | Bound) or hasattr(model, "pseudo_log_prob")
    return isinstance(model, Samples) and not likelihood


def _of_samples(
    model: Any,
    data: Any,
    test: tuple[Tensor, ...],
    generator: torch.Generator,
    features: Any,
) -> dict[str, float]:
    """What compares samples with test examples."""
    x, *labels = test
    n = len(x)
    made = torch.cat(
        [
            model.sample(
                len(rows), *(y[i * PART :][: len(rows)] for y in labels), generator=generator
            )
            for i, rows in enumerate(x.split(PART))
        ]
    )
    report: dict[str, float] = {}
    if features is not None:
        features.eval()
        real, fake = (torch.cat([features.encode(r) for r in z.split(PART)]) for z in (x, made))
        report["frechet"] = float(frechet_distance(real, fake))
        report |= precision_recall(real, fake)._asdict()
        if labels:
            report["accuracy"] = _accuracy(features, made, *labels)
    elif getattr(data, "modes", None) is not None:
        found = mode_coverage(made, *data.modes)._asdict()
        report |= {name: float(value) for name, value in found.items()}
    else:
        report["mmd"] = float(mmd(x.flatten(1), made.flatten(1)))
    return report | {"n": n}


def _values(
    model: Any, test: tuple[Tensor, ...], generator: torch.Generator, k: int
) -> dict[str, PerExample]:
    """What the model can compute of each example, in nats."""
    if isinstance(model, Density):
        return {"log_prob": torch.cat([model.log_prob(rows) for rows in test[0].split(PART)])}
    if hasattr(model, "pseudo_log_prob"):
        parts = [model.pseudo_log_prob(rows) for rows in test[0].split(PART)]
        return {"pseudo_log_prob": torch.cat(parts)}
    if isinstance(model, Bound):
        values = {"elbo": model.elbo(*test, generator=generator)}
        importance: Any = getattr(model, "importance_log_prob", None)
        if importance is not None and k:
            values["iw_bound"] = importance(test[0], k, *test[1:], generator=generator)
        return values
    with drawing_from(generator):
        each = [model.loss(*(t[i : i + 1] for t in test)) for i in range(len(test[0]))]
    return {"loss": torch.stack(each)}


def _accuracy(model: Any, x: Tensor, y: Tensor) -> float:
    """The share of examples that the model assigns to their class."""
    pairs = zip(x.split(PART), y.split(PART), strict=True)
    return sum(float(model.accuracy(*pair)) * len(pair[1]) for pair in pairs) / len(y)


def _of_texts(
    values: dict[str, Tensor], tokens: Tensor, tokenizer: Any, pad: int | None
) -> dict[str, float]:
    """Perplexity for each token and bits for each character, of all examples together."""
    count = tokens.numel() if pad is None else int((tokens != pad).sum())
    report = {}
    for name in values.keys() & {"log_prob", "pseudo_log_prob"}:
        nats = -float(values[name].sum(dtype=torch.float64))
        report[name.replace("log_prob", "perplexity")] = math.exp(nats / count)
        if name == "log_prob":
            characters = sum(len(tokenizer.decode(row)) for row in tokens.tolist())
            report["bits_per_char"] = nats / (characters * math.log(2))
    return report


def _translations(model: Any, tokenizer: Any, source: Tensor, target: Tensor) -> dict[str, float]:
    """How near greedy translations come to the references."""
    made = [
        tokenizer.decode(row)
        for rows in source.split(PART)
        for row in model.translate(rows).tolist()
    ]
    wanted = [tokenizer.decode(row) for row in target.tolist()]
    return {**translation_scores(made, wanted), "n": len(made)}


def translation_scores(made: list[str], wanted: list[str]) -> dict[str, float]:
    """BLEU (Papineni et al. 2002) and chrF (Popović 2015) by sacrebleu, and the share of equals.

    Chinese is split into characters, as sacrebleu's tokenizer "zh" does, other text by its "13a".
    """
    if len(made) != len(wanted) or not made:
        raise ValueError(f"got {len(made)} translations for {len(wanted)} references; give pairs")
    import sacrebleu

    chinese = any("\u4e00" <= c <= "\u9fff" for text in wanted for c in text)
    tokenize = "zh" if chinese else "13a"
    return {
        "bleu": sacrebleu.corpus_bleu(made, [wanted], tokenize=tokenize).score,
        "chrf": sacrebleu.corpus_chrf(made, [wanted]).score,
        "exact": sum(a == b for a, b in zip(made, wanted, strict=True)) / len(made),
    }


def _summary(values: dict[str, Tensor], dims: int, levels: int | None) -> dict[str, float]:
    """Means of ``values``, with bits per dimension for discrete data."""
    report: dict[str, float] = {}
    for name, value in values.items():
        estimate = mean_and_error(value)
        report[name], report["se"] = estimate.mean, estimate.se
        if levels and name != "loss":
            report[f"{name}_bits_per_dim"] = float(bits_per_dim(value.mean(), dims))
    report["n"] = len(next(iter(values.values())))
    return report
