"""VQ-VAE: images as maps of discrete codes, trained by copying gradients past the quantiser.

Notation: ``z`` the encoder's output z_e; ``e`` the codebook, K = ``codes`` vectors of size d =
``code_size``; ``k`` the number of the nearest of them, a code; ``z_q`` = e_k; sg[·] stands for
``.detach()``.

Source: van den Oord et al., Neural discrete representation learning, NeurIPS 2017.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributions import Independent

from gentext.core import (
    Density,
    Generates,
    Model,
    Precise,
    Samples,
    as_weights,
    at_hand,
    at_least_single,
    check_count,
    check_counts,
    check_examples,
    check_number,
    check_shape,
    drawing_from,
    evaluating,
    in_evaluation,
    plain_precision,
    whole_numbers,
)
from gentext.core.shapes import Batch, PerExample, Scalar
from gentext.core.signatures import keep_contract
from gentext.nn.distributions import make_likelihood
from gentext.nn.nets import residual_decoder, residual_encoder

Maps = Int[Tensor, "n h w"]


class Quantized(NamedTuple):
    """z_q with the gradient of z_e, the codes k, and the two terms that train e and the encoder."""

    z_q: Tensor
    codes: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor


class VectorQuantizer(Precise):
    """Replaces vectors by the nearest of ``codes`` vectors of size ``code_size``.

    Args: ``decay`` γ of the moving averages that the codebook follows while training, or None to
    train it by gradients; ``restart``: a code used less than this part of its fair share 1/K
    becomes a vector of the batch (0: never).
    """

    counts: Tensor
    sums: Tensor
    codebook: Tensor

    def __init__(
        self, codes: int, code_size: int, *, decay: float | None = 0.99, restart: float = 0.05
    ) -> None:
        super().__init__()
        check_counts(codes=codes, code_size=code_size)
        if decay is not None and not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), or None for gradients, but got {decay}")
        if not 0 <= restart < 1:
            raise ValueError(f"restart must be in [0, 1), but got {restart}")
        self.decay, self.restart = decay, restart
        start = torch.empty(codes, code_size).uniform_(-1 / codes, 1 / codes)
        if decay is None:
            self.codebook = nn.Parameter(start)
        else:
            self.register_buffer("codebook", start)
            self.register_buffer("counts", torch.zeros(codes))
            self.register_buffer("sums", torch.zeros(codes, code_size))

    def forward(self, z: Float[Tensor, "n d *places"]) -> Quantized:
        """``z`` quantised; the terms are sums over one example, the mean over the batch.

        Equation: :eq:`eq-vq-loss`
        """
        k = self.nearest(z)
        e = at_least_single(self.lookup(k))
        z = z.to(e.dtype)
        codebook_loss = (z.detach() - e).square().flatten(1).sum(1).mean()
        commitment_loss = (z - e.detach()).square().flatten(1).sum(1).mean()
        if self.training and self.decay is not None:
            self.ema_update(z.detach().movedim(1, -1).flatten(0, -2), k.flatten())
        return Quantized(z + (e - z).detach(), k, codebook_loss, commitment_loss)

    @torch.no_grad()
    def nearest(self, z: Float[Tensor, "n d *places"]) -> Int[Tensor, "n *places"]:
        """arg min_j ‖e_j‖² − 2 zᵀe_j, which is that of ‖z − e_j‖².

        Equation: :eq:`eq-vq-loss`
        """
        if z.shape[1] != self.codebook.shape[1]:
            raise ValueError(
                f"got vectors of size {z.shape[1]}, but the codes have {self.codebook.shape[1]}: "
                "give (n, code_size, ...)"
            )
        with plain_precision(z):
            codebook = at_least_single(self.codebook)
            products = z.to(codebook.dtype).movedim(1, -1) @ codebook.T
            return (codebook.square().sum(1) - 2 * products).argmin(-1)

    def lookup(self, k: Int[Tensor, "n *places"]) -> Float[Tensor, "n d *places"]:
        """The vectors e_k."""
        return F.embedding(k, self.codebook).movedim(-1, 1)

    @torch.no_grad()
    def ema_update(self, z: Float[Tensor, "m d"], k: Int[Tensor, "m"]) -> None:
        """Move each code to the moving average of the vectors ``z`` that it stood for.

        N ← γN + (1 − γ)n, m ← γm + (1 − γ)Σz, e = m/N; summed over all processes. Then the codes
        that are hardly used are restarted.

        Equation: :eq:`eq-vq-ema`
        """
        if self.decay is None:
            raise ValueError("this codebook is trained by gradients: build it with a decay")
        one_hot = F.one_hot(k, len(self.codebook)).to(z)
        with plain_precision(z):
            n, total = everywhere(one_hot.sum(0)), everywhere(one_hot.T @ z)
        self.counts.lerp_(n, 1 - self.decay)
        self.sums.lerp_(total, 1 - self.decay)
        mean = self.sums / self.counts.clamp_min(1e-12)[:, None]
        self.codebook.copy_(torch.where(self.counts[:, None] > 1e-12, mean, self.codebook))
        if self.restart > 0:
            self._restart(z)

    def _restart(self, z: Tensor) -> None:
        """Codes hardly used begin anew at vectors of the batch, with a fair share of use."""
        share = self.counts.mean()
        drawn = z[torch.randint(len(z), (len(self.counts),), device=z.device)]
        if dist.is_available() and dist.is_initialized():
            dist.broadcast(drawn, src=0)
        dead = self.counts < self.restart * share
        self.codebook.copy_(torch.where(dead[:, None], drawn, self.codebook))
        self.sums.copy_(torch.where(dead[:, None], share * drawn, self.sums))
        self.counts.copy_(torch.where(dead, share, self.counts))


class VQVAE(Model):
    """An image as a map of codes, four times smaller in both directions, and a decoder p(x | k).

    Args: ``shape`` (c, h, w) of images with h and w divisible by 4; ``codes`` K of size
    ``code_size``; ``hidden`` channels of the networks (``encoder`` and ``decoder`` may be replaced
    by others); ``beta`` the weight of the commitment term; ``decay`` see :class:`VectorQuantizer`
    (``model.quantizer.restart = 0`` turns its restarts off); ``likelihood`` and ``levels`` as for a
    VAE. A ``prior`` over codes is any ``Density`` of codes (n, t), row by row, and to draw with it
    one that ``Generates`` or ``Samples``; None is the uniform one.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        codes: int = 64,
        code_size: int = 16,
        hidden: int = 64,
        beta: float = 0.25,
        decay: float | None = 0.99,
        likelihood: str = "bernoulli",
        levels: int = 256,
    ) -> None:
        super().__init__()
        if len(check_shape(shape)) != 3 or shape[1] % 4 or shape[2] % 4:
            raise ValueError(
                f"shape must be (c, h, w) with h and w divisible by 4, but got {tuple(shape)}: "
                "crop or pad the images"
            )
        check_counts(2, hidden=hidden)
        check_number("beta", beta, least=0)
        self.shape, self.beta = tuple(shape), beta
        self.map = (shape[1] // 4, shape[2] // 4)
        self.likelihood = make_likelihood(likelihood, self.shape, levels=levels)
        self.quantizer = VectorQuantizer(codes, code_size, decay=decay)
        self.encoder: nn.Module = residual_encoder(shape[0], code_size, hidden)
        self.decoder: nn.Module = residual_decoder(
            code_size, shape[0] * self.likelihood.per_value, hidden
        )

    def loss(self, x: Batch) -> Scalar:
        """−log p(x | z_q) + ‖sg[z_e] − e_k‖² + β‖z_e − sg[e_k]‖², the mean over the batch, in nats.

        The second term is left out where moving averages train the codebook.

        Equation: :eq:`eq-vq-loss`
        """
        check_examples(x, self.shape, self.likelihood.low, self.likelihood.high)
        quantized = self.quantizer(self.features(x))
        loss = self.beta * quantized.commitment_loss
        if self.quantizer.decay is None:
            loss = loss + quantized.codebook_loss
        return loss - self._likelihood_of(quantized.z_q).log_prob(x).mean()

    @in_evaluation
    def encode(self, x: Batch) -> Maps:
        """The codes (n, h/4, w/4) of images."""
        check_examples(x, self.shape, self.likelihood.low, self.likelihood.high)
        return self.quantizer.nearest(self.features(x))

    def features(self, x: Batch) -> Tensor:
        """z_e of images, in single precision at least."""
        return at_least_single(self.encoder(as_weights(x, self.encoder)))

    def represent(self, x: Batch) -> Tensor:
        """z_e of images, in the mode that the model is in."""
        check_examples(x, self.shape, self.likelihood.low, self.likelihood.high)
        return self.features(x)

    def backbone(self) -> list[nn.Module]:
        """The encoder."""
        return [self.encoder]

    @in_evaluation
    def decode(self, codes: Int[Tensor, "n *places"]) -> Independent:
        """p(x | k) of codes (n, h/4, w/4) or of rows (n, t), with event shape ``shape``."""
        return self._likelihood_of(self.quantizer.lookup(self._maps(codes)))

    @in_evaluation
    def elbo_terms(self, x: Batch, prior: Any = None) -> tuple[PerExample, PerExample]:
        """log p(x | k(x)) and log p(k(x)), in nats.

        Equation: :eq:`eq-vq-bound`
        """
        self.check(x)
        k = self.encode(x)
        reconstruction = self.decode(k).log_prob(x)
        if prior is not None and not isinstance(prior, Density):
            raise ValueError(
                f"prior must have log_prob(codes), but is a {type(prior).__name__}; this model "
                "takes no labels"
            )
        if prior is not None:
            return reconstruction, prior.log_prob(k.flatten(1))
        uniform = -math.prod(self.map) * math.log(len(self.quantizer.codebook))
        return reconstruction, torch.full_like(reconstruction, uniform)

    def elbo(
        self, x: Batch, prior: Any = None, *, generator: torch.Generator | None = None
    ) -> PerExample:
        """A lower bound of log p(x) in nats; nothing is drawn, so ``generator`` is of no effect.

        Equation: :eq:`eq-vq-bound`
        """
        reconstruction, log_prior = self.elbo_terms(x, prior)
        return reconstruction + log_prior

    @torch.no_grad()
    def sample(
        self,
        n: int,
        prior: Any = None,
        *,
        mean: bool = False,
        generator: torch.Generator | None = None,
    ) -> Batch:
        """``n`` draws x ~ p(x | k), k ~ p(k); with ``mean`` the noise-free E[x | k] instead."""
        check_count("n", n)
        with evaluating(self), drawing_from(generator):
            p = self.decode(self._draw_codes(n, prior))
            return p.mean if mean else p.sample()

    @torch.no_grad()
    def reconstruct(self, x: Batch) -> Batch:
        """E[x | k(x)]."""
        with evaluating(self):
            return self.decode(self.encode(x)).mean

    @torch.no_grad()
    def usage(self, x: Batch) -> float:
        """The perplexity of the codes of ``x``: K if all are used alike, 1 if only one is."""
        with evaluating(self):
            return perplexity(self.encode(x), len(self.quantizer.codebook))

    def check(self, x: Tensor) -> None:
        """Raise ValueError where the data do not fit this model."""
        self.likelihood.check(x)

    def _likelihood_of(self, z_q: Tensor) -> Independent:
        z_q = as_weights(z_q, self.decoder)
        return self.likelihood(self.decoder(z_q).unflatten(1, (-1, self.shape[0])))

    def _draw_codes(self, n: int, prior: Any) -> Tensor:
        size, device = math.prod(self.map), self.quantizer.codebook.device
        if prior is None:
            return torch.randint(len(self.quantizer.codebook), (n, size), device=device)
        if isinstance(prior, Generates):  # a model of sequences of any length
            return prior.generate(torch.empty(n, 0, dtype=torch.long, device=device), size)
        if not isinstance(prior, Samples):
            raise ValueError(
                "prior must have generate(tokens, n) or sample(n) to be drawn from, but is a "
                f"{type(prior).__name__}"
            )
        drawn = prior.sample(n)
        if drawn.is_floating_point():  # "images" k/(K-1) of codes
            drawn = (drawn * (len(self.quantizer.codebook) - 1)).round().long()
        return drawn.flatten(1)

    def _maps(self, codes: Tensor) -> Tensor:
        codes, codebook = whole_numbers(codes, "codes"), self.quantizer.codebook
        if codes.shape[1:].numel() != math.prod(self.map):
            raise ValueError(
                f"got codes of shape {tuple(codes.shape)}, but images of this model have maps of "
                f"{self.map[0]} x {self.map[1]}: give (n, {self.map[0]}, {self.map[1]}) or rows"
            )
        if at_hand(codes) and codes.numel():
            low, high = (int(k) for k in codes.aminmax())
            if low < 0 or high >= len(codebook):
                raise ValueError(
                    f"got codes from {low} to {high}, but there are 0 to {len(codebook) - 1}: "
                    "does the prior draw tokens that are no codes?"
                )
        return codes.reshape(-1, *self.map)


def perplexity(codes: Tensor, k: int) -> float:
    """e to the entropy of the frequencies of 0..k−1 among ``codes``: how many are in use."""
    codes = whole_numbers(codes, "codes")
    p = torch.bincount(codes.flatten(), minlength=k).double() / codes.numel()
    return float(torch.special.entr(p).sum().exp())


def everywhere(total: Tensor) -> Tensor:
    """The sum of ``total`` over all processes of a data-parallel training."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(total)
    return total


keep_contract(globals())
