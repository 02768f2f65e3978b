"""Fine-tuning: an encoder that was trained for another task, with a new head, on few labels.

The encoder may stay as it is (a linear probe), learn as a whole, be pulled towards the weights
that it came with, learn more slowly the nearer a layer is to the data, or learn low-rank updates.

Notation: ``x`` examples, ``y`` classes; ``w`` weights of the encoder, ``w_0`` those it came with,
λ = ``pull``; ``decay`` the factor of the learning rates from one layer to that below it.

Source: Li et al., ICML 2018 (L2-SP); Howard and Ruder, ACL 2018 (rates); Hu et al., ICLR 2022.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import cross_entropy

from gentext.core import (
    Encodes,
    Model,
    OfShape,
    OfTokens,
    Represents,
    at_least_single,
    check_count,
    check_dropout,
    check_labels,
    check_number,
    chosen,
    evaluating,
    in_evaluation,
    whole_numbers,
)
from gentext.core.shapes import Batch, Flat, Labels, Scalar
from gentext.core.signatures import keep_contract
from gentext.nn.nets import Encoder
from gentext.training.parts import built, described
from gentext.transfer.freezing import freeze, learn_only, unfreeze
from gentext.transfer.lora import add_lora

POOLS = ("mean", "first")
HOLDERS = (nn.Sequential, nn.ModuleList, Encoder)  # what they hold are layers
__all__ = ["Finetuned", "freeze", "l2_sp", "layer_rates", "layers_of", "pooled", "unfreeze"]


class Finetuned(Model):
    """p(y | x) by a linear head on the features of an encoder: logits = W dropout(features) + b.

    The encoder given is copied and stays as it is. Its features come in the mode of this model
    where it ``Represents`` examples, and else, by ``encode``, in evaluation mode.

    Args: ``encoder`` a model that encodes, or as it is kept in ``arguments``, a dict of its
    ``class`` and what it is built with; ``classes``; ``frozen`` whether the head alone learns;
    ``pull`` λ; ``decay`` the factor of the learning rates per layer, 1 for none; ``lora`` what
    ``add_lora`` is given, such as {"names": ["q", "v"], "rank": 8, "alpha": 16}; ``dropout`` of
    the features; ``pool`` "mean" of the places that are no padding, or "first", where features are
    those of tokens.
    """

    start: Tensor | None

    def __init__(
        self,
        *,
        encoder: Model | dict[str, Any],
        classes: int,
        frozen: bool = False,
        pull: float = 0.0,
        decay: float = 1.0,
        lora: Mapping[str, Any] | None = None,
        dropout: float = 0.0,
        pool: str = "mean",
    ) -> None:
        super().__init__()
        check_count("classes", classes, 2)
        check_dropout(dropout)
        check_number("pull", pull, least=0)
        check_number("decay", decay, above=0, most=1)
        if frozen + (pull > 0) + (lora is not None) > 1 or ((frozen or lora) and decay != 1):
            raise ValueError(
                f"got frozen={frozen}, pull={pull}, decay={decay} and lora={lora}: weights that do "
                "not move are not pulled and have no rates; leave some out"
            )
        self.classes, self.pull, self.decay = classes, pull, decay
        self.pool = chosen("pool", pool, POOLS)
        self.encoder: Any = _encoding(copy.deepcopy(built(encoder)))
        self.arguments = self.arguments | {"encoder": described(self.encoder)}
        if frozen:
            freeze(self.encoder)
        elif lora is not None:
            _add_lora(self.encoder, lora)
        else:
            learn_only(self.encoder, _backbone(self.encoder))
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(self._size(frozen), classes)
        self.register_buffer("start", self._weights().detach().clone() if pull else None)

    def features(self, x: Batch) -> Flat:
        """The features of examples, (n, d), in the mode that the model is in."""
        encoder = self.encoder
        codes = encoder.represent(x) if isinstance(encoder, Represents) else encoder.encode(x)
        pad = encoder.pad if isinstance(encoder, OfTokens) else None
        return pooled(codes, None if pad is None else x != pad, self.pool)

    def logits(self, x: Batch) -> Float[Tensor, "n classes"]:
        """log p(y | x) of every class but for a constant of each example."""
        features = self.features(x).to(self.head.weight.dtype)
        return at_least_single(self.head(self.dropout(features)))

    def loss(self, x: Batch, y: Labels) -> Scalar:
        """−log p(y | x), the mean over the batch, in nats; and (λ/2) ‖w − w_0‖².

        Equation: :eq:`eq-pre-l2sp`
        """
        error = cross_entropy(self.logits(x), whole_numbers(y, "labels"))
        return (
            error if self.start is None else error + l2_sp(self._weights(), self.start, self.pull)
        )

    def rates(self) -> dict[nn.Parameter, float]:
        """The head learns at the common rate, each layer below it more slowly by ``decay``."""
        if self.decay == 1:
            return {}
        return layer_rates([*_backbone(self.encoder), self.head], self.decay)

    @in_evaluation
    def predict(self, x: Batch) -> Labels:
        """The most probable class of each example."""
        return self.logits(x).argmax(1)

    def accuracy(self, x: Batch, y: Labels) -> Scalar:
        """The share of the examples whose most probable class is ``y``."""
        y = check_labels(y, len(x), self.classes)
        return (self.predict(x) == y).float().mean()

    def check(self, x: Tensor, y: Tensor) -> None:
        """Raise ValueError where data do not fit, or where a class has no example."""
        self.check_batch(x, y)
        there = set(y.unique().tolist())
        missing = [k for k in range(self.classes) if k not in there]
        if missing:
            raise ValueError(
                f"got {len(y)} labels, and none of class {', '.join(map(str, missing[:5]))}: give "
                f"examples of all {self.classes} classes, numbered from 0, or build for fewer"
            )

    def check_batch(self, x: Tensor, y: Tensor) -> None:
        """Raise ValueError where examples or labels do not fit."""
        labels = (torch.zeros(len(x), dtype=torch.long),)  # any will do
        self.encoder.check(x, *labels[: getattr(self.encoder, "classes", 0) > 0])
        check_labels(y, len(x), self.classes)

    def _weights(self) -> Tensor:
        """All weights of the encoder that learn, one after the other."""
        return torch.cat([p.flatten() for p in self.encoder.parameters() if p.requires_grad])

    def _size(self, frozen: bool) -> int:
        """How many features an example has; ValueError where none could learn, but should."""
        with evaluating(self), torch.enable_grad():
            features = self.features(_example(self.encoder))
        if not (frozen or features.requires_grad):
            raise ValueError(
                f"the features of a {type(self.encoder).__name__} have no gradient, so only the "
                "head can learn: give frozen=True"
            )
        return features.shape[1]


def pooled(codes: Tensor | Distribution, shown: Tensor | None = None, pool: str = "mean") -> Flat:
    """One row of features an example: means of distributions, maps as rows, tokens pooled.

    Arguments:
        codes: a distribution, or features (n, d), (n, c, h, w), or those of tokens (n, t, d).
        shown: (n, t), True at the places that are no padding (None: all); pool: over tokens, the
            "mean" of these places, or the "first" place.
    """
    chosen("pool", pool, POOLS)
    x = codes.mean if isinstance(codes, Distribution) else codes
    if x.ndim < 2 or not x.is_floating_point():
        raise ValueError(f"got codes {tuple(x.shape)} of {x.dtype}; features are real, (n, ...)")
    if x.ndim != 3:
        return x.flatten(1)
    if pool == "first":
        return x[:, 0]
    if shown is None:
        return x.mean(1)
    share = shown.to(x) / shown.sum(1, keepdim=True).clamp(min=1)
    return (share[..., None] * x).sum(1)


def l2_sp(w: Tensor, w_0: Tensor, pull: float) -> Scalar:
    """(λ/2) ‖w − w_0‖², which pulls weights towards those that they came with.

    For a loss ½ (w − w_t)ᵀ H (w − w_t) its optimum is (H + λI)⁻¹ (H w_t + λ w_0).

    Equation: :eq:`eq-pre-l2sp`
    """
    return pull / 2 * (at_least_single(w) - at_least_single(w_0)).square().sum()


def layers_of(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """The modules that have parameters; of sequences and lists of modules, those inside them."""
    layers: list[nn.Module] = []
    for module in modules:
        if isinstance(module, HOLDERS):
            layers += layers_of(module.children())
        elif any(True for _ in module.parameters()):
            layers.append(module)
    return layers


def layer_rates(modules: Sequence[nn.Module], decay: float) -> dict[nn.Parameter, float]:
    """The factor of the learning rate of each parameter: 1 in the last layer, ``decay`` before it.

    The layer before that has ``decay``², and so on; Howard and Ruder take 1/2.6. It is what
    ``rates`` of a model gives to training.

    Source: Howard and Ruder, ACL 2018.
    """
    check_number("decay", decay, above=0, most=1)
    layers = layers_of(modules)[::-1]
    return {p: decay**depth for depth, layer in enumerate(layers) for p in layer.parameters()}


def _encoding(model: Model) -> Model:
    if not isinstance(model, Encodes):
        raise ValueError(
            f"a {type(model).__name__} cannot encode: give an encoder with encode(x), such as a "
            "VAE, an Autoencoder, a Classifier or a BERT"
        )
    return model


def _backbone(encoder: Any) -> Sequence[nn.Module]:
    """What the features go through, the part nearest to the data first."""
    return encoder.backbone() if isinstance(encoder, Represents) else [encoder]


def _add_lora(encoder: nn.Module, lora: Mapping[str, Any]) -> None:
    odd = [name for name in lora if name not in ("names", "rank", "alpha")]
    if odd or not {"names", "rank"} <= lora.keys():
        raise ValueError(f"got lora={dict(lora)}; give names and rank, and alpha if not as rank")
    add_lora(encoder, **lora)


def _example(encoder: Any) -> Tensor:
    """An example that the encoder can read."""
    like = next(encoder.parameters(), torch.empty(0))
    if isinstance(encoder, OfTokens):
        return like.new_zeros(1, 1, dtype=torch.long)
    if isinstance(encoder, OfShape):
        return like.new_zeros(1, *encoder.shape)
    raise ValueError(
        f"a {type(encoder).__name__} does not say of which shape its examples are: give it an "
        "attribute shape (or vocab_size and pad), which the size of the head depends on"
    )


keep_contract(globals())
