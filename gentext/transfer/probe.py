"""A linear probe: multinomial logistic regression on features that stay as they are.

On raw values it is the baseline that every use of a trained encoder has to beat; both are tuned
alike, by validation data.

Notation: ``x`` features (n, ...), read as rows (n, d); z = (x − μ)/s with mean and standard
deviation of the training rows; logits W z + b; λ = ``penalty``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from gentext.core import Precise, at_least_single, check_count, check_labels, check_number
from gentext.core.shapes import Batch, Labels, PerExample, Scalar
from gentext.core.signatures import keep_contract

PENALTIES = tuple(10.0**k for k in range(4, -4, -1))
MOST_STEPS = 10_000  # of the quasi-Newton method for one penalty


class LinearProbe(Precise):
    """p(y | x) = softmax(W z + b), fitted by :meth:`fit`, z being the standardised features.

    Args: ``mean`` and ``std`` (d,), ``weight`` W (classes, d), ``bias`` (classes,), ``penalty`` λ.
    """

    mean: Tensor
    std: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        mean: Float[Tensor, "d"],
        std: Float[Tensor, "d"],
        weight: Float[Tensor, "classes d"],
        bias: Float[Tensor, "classes"],
        penalty: float,
    ) -> None:
        super().__init__()
        self.penalty, self.classes = penalty, len(bias)
        for name, value in {"mean": mean, "std": std, "weight": weight, "bias": bias}.items():
            self.register_buffer(name, value)

    @classmethod
    def fit(
        cls,
        x: Batch,
        y: Labels,
        validation: tuple[Tensor, Tensor],
        *,
        classes: int,
        penalties: Sequence[float] = PENALTIES,
    ) -> LinearProbe:
        """The best of the fits that minimise −Σ log p(y | x) + (λ/2) ‖W‖² for each penalty λ.

        Best is what has the highest mean log p(y | x) of ``validation``, a pair (x, y). Raises
        ValueError for classes without an example.
        """
        check_count("classes", classes, 2)
        rows, y = _rows(x), _labels(y, x, classes)
        others, labels = validation
        labels = check_labels(labels, len(others), classes)
        for penalty in penalties:
            check_number("penalty", penalty, above=0)
        mean, std = rows.mean(0), rows.std(0, correction=0)
        std = torch.where(std > 0, std, 1.0)
        best, most = None, -torch.inf
        for penalty, weight, bias in _fits((rows - mean) / std, y, classes, penalties):
            probe = cls(mean, std, weight, bias, penalty)
            value = float(probe.log_prob(others, labels).mean())
            if best is None or value > most:
                best, most = probe, value
        if best is None:
            raise ValueError("got no penalties; give at least one to choose from")
        return best

    def logits(self, x: Batch) -> Float[Tensor, "n classes"]:
        """log p(y | x) of every class but for a constant of each example."""
        rows = _rows(x, len(self.mean)).to(self.weight)
        return (rows - self.mean) / self.std @ self.weight.T + self.bias

    def log_prob(self, x: Batch, y: Labels) -> PerExample:
        """log p(y | x) in nats."""
        y = check_labels(y, len(x), self.classes)
        return self.logits(x).log_softmax(1).gather(1, y[:, None])[:, 0]

    def predict(self, x: Batch) -> Labels:
        """The most probable class of each example."""
        return self.logits(x).argmax(1)

    def accuracy(self, x: Batch, y: Labels) -> Scalar:
        """The share of the examples whose most probable class is ``y``."""
        return (self.predict(x) == check_labels(y, len(x), self.classes)).float().mean()


def _fits(
    z: Tensor, y: Tensor, classes: int, penalties: Sequence[float]
) -> Iterator[tuple[float, Tensor, Tensor]]:
    """Each penalty with its W and b, the largest first, each from the one before."""
    from sklearn.linear_model import LogisticRegression  # it takes a second to import

    features, labels = z.double().cpu().numpy(), y.cpu().numpy()
    solver = LogisticRegression(max_iter=MOST_STEPS, tol=1e-6, warm_start=True)
    for penalty in sorted(penalties, reverse=True):
        # of two classes the library knows w = W_1 − W_0, of which (1/4) ‖w‖² is (1/2) ‖W‖²
        solver.set_params(C=(2 if classes == 2 else 1) / penalty)
        solver.fit(features, labels)
        weight, bias = torch.tensor(solver.coef_), torch.tensor(solver.intercept_)
        if classes == 2:
            weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
        yield penalty, weight.to(z), bias.to(z)


def _rows(x: Tensor, size: int | None = None) -> Float[Tensor, "n d"]:
    """Features as rows, in single precision at least; ValueError where they are none."""
    if not x.is_floating_point() or x.ndim < 2 or not x.numel():
        raise ValueError(f"got features {tuple(x.shape)} of {x.dtype}; give real numbers, (n, d)")
    rows = at_least_single(x.detach()).flatten(1)
    if size is not None and rows.shape[1] != size:
        raise ValueError(f"got {rows.shape[1]} features an example; this probe has learnt {size}")
    if not rows.isfinite().all():
        raise ValueError("got NaN or infinite features; is the encoder trained?")
    return rows


def _labels(y: Tensor, x: Tensor, classes: int) -> Tensor:
    """``y`` as int64, of which there is one for each of ``x``, and some of each class."""
    y = check_labels(y, len(x), classes)
    missing = [str(k) for k in range(classes) if not (y == k).any()]
    if missing:
        raise ValueError(
            f"got no example of class {', '.join(missing[:5])}: give some of each of {classes} "
            "classes, or name fewer"
        )
    return y


keep_contract(globals())
