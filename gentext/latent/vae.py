"""Variational autoencoders: the evidence lower bound, its gradient, and what is built on it.

Notation: ``x`` data, ``z`` code, ``y`` class; q the encoder's distribution q(z | x), p(z) = N(0, I)
the prior, p(x | z) the decoder's likelihood; log w = log p(x, z) − log q(z | x); K samples ``k``.

Source: Kingma and Welling, ICLR 2014; Rezende et al., ICML 2014.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.distributions import Independent

from gentext.core import (
    Model,
    as_weights,
    at_hand,
    check_count,
    check_counts,
    check_examples,
    check_labels,
    check_number,
    check_shape,
    drawing_from,
    if_given,
    in_evaluation,
    whole_numbers,
)
from gentext.core.shapes import Batch, Codes, Flat, Labels, PerExample, Scalar
from gentext.core.signatures import keep_contract
from gentext.nn.distributions import (
    DiagonalNormal,
    StandardNormal,
    kl_normal,
    make_likelihood,
    normal_draws,
)
from gentext.nn.nets import Decoder, Encoder, one_hot

NO_LABELS = "this model takes no labels: use ConditionalVAE, or leave them out"
Networks = str | tuple[nn.Module, nn.Module]


class VAE(Model):
    """A latent-variable model p(z) p(x | z) trained with an encoder q(z | x).

    With ``classes`` it is conditional: p(x | z, y) and q(z | x, y), where both networks see the
    class y, and every method takes the labels of its examples.

    Args: ``shape`` of one example; ``latent`` size of z; ``hidden`` units; ``net`` "linear", "mlp",
    "conv" or a pair of modules, an encoder to (n, 2 latent) and a decoder to (n, m, *shape) with m
    numbers for each value of x (2 for "logistic", else 1); ``likelihood`` "bernoulli",
    "continuous-bernoulli", "normal" (standard deviation ``scale``; None: learned) or "logistic"
    (``levels`` grey levels); ``beta`` the weight of the KL term in the loss; ``classes`` the number
    of classes, 0 for none.
    """

    least_label = 0

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        latent: int,
        hidden: int = 256,
        net: Networks = "mlp",
        likelihood: str = "bernoulli",
        levels: int = 256,
        scale: float | None = None,
        beta: float = 1.0,
        classes: int = 0,
    ) -> None:
        super().__init__()
        check_counts(latent=latent, hidden=hidden)
        check_count("classes", classes, 0)
        check_number("beta", beta, least=0)
        if classes and not isinstance(net, str):
            raise ValueError("a model with labels builds its networks: give net by name")
        self.shape, self.latent, self.classes, self.beta = check_shape(shape), latent, classes, beta
        self.prior, self.posterior = StandardNormal(latent), DiagonalNormal()
        self.likelihood = make_likelihood(likelihood, self.shape, levels=levels, scale=scale)
        if isinstance(net, str):
            kind: dict[str, Any] = {"hidden": hidden, "net": net}
            self.encoder: nn.Module = Encoder(shape, 2 * latent, context=classes, **kind)
            kind["per_value"] = self.likelihood.per_value
            self.decoder: nn.Module = Decoder(latent + classes, shape, **kind)
        else:
            self.encoder, self.decoder = net

    @in_evaluation
    def encode(self, x: Batch, y: Labels | None = None) -> Independent:
        """q(z | x), a normal distribution with batch shape (n,) and event shape (latent,)."""
        return self._encode(x, y)

    def _encode(self, x: Batch, y: Labels | None) -> Independent:
        """The same in the mode that the model is in, as are all that begin so."""
        check_examples(x, self.shape, self.likelihood.low, self.likelihood.high)
        x = as_weights(x, self.encoder)
        return self.posterior(self.encoder(x, *self._one_hot(y, x)))

    def represent(self, x: Batch) -> Codes:
        """The means of q(z | x), in the mode that the model is in."""
        return self._encode(x, None).mean

    def backbone(self) -> list[nn.Module]:
        """The encoder."""
        return [self.encoder]

    @in_evaluation
    def decode(self, z: Codes, y: Labels | None = None) -> Independent:
        """p(x | z), with batch shape (n,) and event shape ``shape``."""
        return self._decode(z, y)

    def _decode(self, z: Codes, y: Labels | None) -> Independent:
        z = as_weights(z, self.decoder)
        return self.likelihood(self.decoder(torch.cat([z, *self._one_hot(y, z)], dim=1)))

    @in_evaluation
    def elbo_terms(
        self,
        x: Batch,
        y: Labels | None = None,
        *,
        samples: int = 1,
        generator: Generator | None = None,
    ) -> tuple[PerExample, PerExample]:
        """E_q log p(x | z), from ``samples`` draws, and KL(q ‖ p(z)), both in nats.

        Equation: :eq:`eq-vae-split`
        """
        self.check(x, *if_given(y))
        check_count("samples", samples)
        return self._elbo_terms(x, y, samples, generator)

    def _elbo_terms(
        self, x: Batch, y: Labels | None, samples: int = 1, generator: Any = None
    ) -> tuple[PerExample, PerExample]:
        q = self._encode(x, y)
        z = normal_draws(q, samples, generator)
        return self._log_likelihood(x, z, y).mean(0), kl_normal(q.base_dist.loc, q.base_dist.scale)

    def elbo(
        self,
        x: Batch,
        y: Labels | None = None,
        *,
        samples: int = 1,
        generator: Generator | None = None,
    ) -> PerExample:
        """The evidence lower bound of log p(x) in nats, from ``samples`` draws of z.

        Equation: :eq:`eq-vae-split`
        """
        reconstruction, kl = self.elbo_terms(x, y, samples=samples, generator=generator)
        return reconstruction - kl

    def loss(self, x: Batch, y: Labels | None = None) -> Scalar:
        """−(E_q log p(x | z) − β KL(q ‖ p(z))), the mean over the batch, in nats.

        Equation: :eq:`eq-vae-beta`
        """
        reconstruction, kl = self._elbo_terms(x, y)
        return (self.beta * kl - reconstruction).mean()

    @in_evaluation
    def log_weights(
        self, x: Batch, y: Labels | None = None, *, k: int, generator: Generator | None = None
    ) -> Float[Tensor, "k n"]:
        """log w = log p(x, z) − log q(z | x) of ``k`` draws z ~ q, in nats; their mean is the ELBO.

        Equation: :eq:`eq-vae-elbo`
        """
        self.check(x, *if_given(y))
        check_count("k", k)
        return self._log_weights(x, y, k, generator)

    def _log_weights(self, x: Batch, y: Labels | None, k: int, generator: Any = None) -> Tensor:
        q = self._encode(x, y)
        z = normal_draws(q, k, generator)
        return self._log_likelihood(x, z, y) + self.prior().log_prob(z) - q.log_prob(z)

    @torch.no_grad()
    @in_evaluation
    def importance_log_prob(
        self,
        x: Batch,
        k: int,
        y: Labels | None = None,
        *,
        generator: Generator | None = None,
        chunk: int = 4096,
    ) -> PerExample:
        """The K-sample importance-weighted bound of log p(x) in nats, ``chunk`` codes at a time.

        Equation: :eq:`eq-vae-iwae`

        Source: Burda et al., ICLR 2016.
        """
        self.check(x, *if_given(y))
        check_counts(k=k, chunk=chunk)
        bounds = []
        for i in range(0, len(x), chunk):
            part, label = x[i : i + chunk], None if y is None else y[i : i + chunk]
            total = torch.full_like(part.flatten(1)[:, 0], -math.inf)
            draws = max(1, chunk // len(part))
            for start in range(0, k, draws):
                log_w = self._log_weights(part, label, min(draws, k - start), generator)
                total = torch.logaddexp(total, log_w.logsumexp(0))
            bounds.append(total - math.log(k))
        return torch.cat(bounds)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        y: Labels | None = None,
        *,
        mean: bool = False,
        generator: Generator | None = None,
    ) -> Batch:
        """``n`` draws x ~ p(x | z), z ~ p(z); with ``mean`` the noise-free E[x | z] instead.

        They are of the classes ``y`` (n,) where the model has classes; without ``y`` classes are
        drawn uniformly.
        """
        check_count("n", n)
        if y is not None and self.classes:
            check_labels(y, n, self.classes)
        if y is None and self.classes:
            with drawing_from(generator):
                y = torch.randint(self.classes, (n,), device=self.prior.zero.device)
        with drawing_from(generator):
            p = self.decode(self.prior().sample((n,)), y)
            return p.mean if mean else p.sample()

    @torch.no_grad()
    def reconstruct(self, x: Batch, y: Labels | None = None) -> Batch:
        """E[x | z] at the mean z of q(z | x)."""
        return self.decode(self.encode(x, y).mean, y).mean

    @torch.no_grad()
    def interpolate(
        self, a: Batch, b: Batch, steps: int = 8, y: Labels | None = None
    ) -> Float[Tensor, "n steps *event"]:
        """E[x | z] along the straight lines of codes from each of ``a`` to each of ``b``."""
        check_count("steps", steps, 2)  # both ends are counted
        start, end = self.encode(a, y).mean, self.encode(b, y).mean
        t = torch.linspace(0, 1, steps).to(start)[:, None]
        z = start[:, None] + t * (end - start)[:, None]
        labels = None if y is None else y.repeat_interleave(steps)
        return self.decode(z.flatten(0, 1), labels).mean.unflatten(0, (len(a), steps))

    def check(self, x: Tensor, *labels: Tensor) -> None:
        """Raise ValueError where examples or labels do not fit this model."""
        self.likelihood.check(x)
        if labels and not self.classes:
            raise ValueError(NO_LABELS)
        for y in labels:
            check_labels(y, len(x), self.classes, self.least_label)

    def _one_hot(self, y: Labels | None, like: Tensor) -> tuple[Flat, ...]:
        """Labels (n,) as vectors (n, classes), nothing for a model without classes.

        Raises ValueError for labels that such a model is given, or that another one lacks.
        """
        if y is None and not self.classes:
            return ()
        if not self.classes:
            raise ValueError(NO_LABELS)
        if y is None:
            raise ValueError(f"this model needs labels y from 0 to {self.classes - 1}: give them")
        y = check_labels(y, len(like), self.classes) if at_hand(y) else whole_numbers(y, "labels")
        return (one_hot(y, self.classes).to(like),)

    def _log_likelihood(self, x: Batch, z: Tensor, y: Labels | None = None) -> Tensor:
        """log p(x | z), (k, n), for each of k codes, (k, n, latent), of each example."""
        p = self._decode(z.flatten(0, 1), None if y is None else y.repeat(len(z)))
        return p.log_prob(x.repeat(len(z), *[1] * len(self.shape))).unflatten(0, (len(z), -1))


def importance_bound(log_w: Float[Tensor, "k n"]) -> PerExample:
    """log (1/K) Σ_k w_k, the K-sample bound of log p(x), from log-weights (K, n).

    Equation: :eq:`eq-vae-iwae`
    """
    return log_w.logsumexp(0) - math.log(len(log_w))


class IWAE(VAE):
    """A VAE trained on the K-sample importance-weighted bound, ``k`` draws an example.

    Source: Burda et al., ICLR 2016.
    """

    def __init__(self, *, k: int = 5, **arguments) -> None:
        check_count("k", k)
        if arguments.get("beta", 1.0) != 1.0:
            raise ValueError("the importance-weighted bound has no beta: leave it out, or use VAE")
        super().__init__(**arguments)
        self.k = k

    def loss(self, x: Batch, y: Labels | None = None) -> Scalar:
        """Minus the K-sample bound, the mean over the batch, in nats.

        Equation: :eq:`eq-vae-iwae`
        """
        return -importance_bound(self._log_weights(x, y, self.k)).mean()


@torch.no_grad()
def active_units(model: VAE, x: Batch, threshold: float = 0.01, y: Labels | None = None) -> int:
    """How many codes depend on x: the variance over x of q's mean is above ``threshold``.

    Source: Burda et al., ICLR 2016.
    """
    return int((model.encode(x, y).mean.var(0) > threshold).sum())


@torch.no_grad()
def elbo_surgery(
    model: VAE, x: Batch, *, samples: int = 1, generator: Generator | None = None
) -> tuple[float, float]:
    """I_q(n; z) and KL(q̄ ‖ p), in nats, by Monte Carlo; q̄ is the mean of q(z | x_n) over ``x``.

    Their sum is the mean over ``x`` of KL(q(z | x_n) ‖ p), and I_q is at most log N. Where the
    posteriors do not overlap, I_q is log N and the second is the rest, whatever the prior.

    Equation: :eq:`eq-vae-surgery`

    Source: Hoffman and Johnson, NeurIPS workshop 2016.
    """
    check_count("samples", samples)
    q = model.encode(x)
    with drawing_from(generator):
        z = q.sample((samples,))
    log_q = q.log_prob(z)  # each code under its own posterior
    blocks = [q.log_prob(part.unsqueeze(2)).logsumexp(-1) for part in z.split(256, dim=1)]
    log_mixture = torch.cat(blocks, dim=1) - math.log(len(x))
    information = (log_q - log_mixture).mean()
    marginal = (log_mixture - model.prior().log_prob(z)).mean()
    return float(information), float(marginal)


keep_contract(globals())
