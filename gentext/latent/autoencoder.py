"""Autoencoders: from principal components to denoising, and the score that a denoiser learns.

Notation: ``x`` data, ``z`` code, f encoder, g decoder, r = g∘f reconstruction, ``x_t`` noisy data
x + σε, ``sigma`` σ; U and ``variances`` λ are eigenvectors and eigenvalues of the covariance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from gentext.core import (
    Model,
    Precise,
    as_weights,
    at_least_single,
    check_count,
    check_examples,
    check_number,
    check_shape,
    in_evaluation,
    normal_like,
)
from gentext.core.shapes import Batch, Codes, Flat, PerExample, Scalar
from gentext.core.signatures import keep_contract
from gentext.nn.nets import Decoder, Encoder

Vector = Float[Tensor, "d"]
Matrix = Float[Tensor, "d k"]


class PrincipalComponents(NamedTuple):
    """The mean (d,), all d eigenvectors as columns (d, d), and their variances λ (d,), falling."""

    mean: Tensor
    directions: Tensor
    variances: Tensor

    def encode(self, x: Flat, k: int) -> Codes:
        """Codes U_kᵀ(x − μ) of shape (n, k)."""
        check_count("k", k, 0)
        return (x - self.mean) @ self.directions[:, :k]

    def decode(self, z: Codes) -> Flat:
        """Points μ + U_k z of shape (n, d)."""
        return self.mean + z @ self.directions[:, : z.shape[1]].T

    def residual(self, k: int) -> float:
        """The least mean squared error of a linear autoencoder with k codes: Σ_{i>k} λ_i.

        Equation: :eq:`eq-ae-pca`
        """
        check_count("k", k, 0)
        return float(self.variances[k:].sum())


def principal_components(x: Batch) -> PrincipalComponents:
    """Principal components of data of shape (n, d), whose covariance divides by n.

    Equation: :eq:`eq-ae-pca`

    Source: Pearson 1901; Baldi and Hornik, Neural Networks 1989, for the autoencoder.
    """
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(
            f"principal_components needs data of shape (n, d) with n >= 2, but got "
            f"{tuple(x.shape)}: flatten images by x.flatten(1)"
        )
    variances, directions = torch.linalg.eigh(torch.cov(x.T, correction=0).reshape(x.shape[1], -1))
    return PrincipalComponents(x.mean(0), directions.flip(1), variances.flip(0).clamp_min(0))


class PPCA(Precise):
    """Probabilistic PCA: z ~ N(0, I), x = μ + Wz + sε, so that x ~ N(μ, WWᵀ + s²I).

    ``mean`` μ (d,), ``weight`` W (d, k), ``variance`` s². Built by :meth:`fit`.

    Source: Tipping and Bishop, J. R. Statist. Soc. B 1999.
    """

    mean: Tensor
    weight: Tensor
    variance: Tensor

    def __init__(self, mean: Vector, weight: Matrix, variance: Scalar) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("weight", weight)
        self.register_buffer("variance", variance)

    @classmethod
    def fit(cls, x: Flat, k: int, variance: float | None = None) -> PPCA:
        """Maximum likelihood for data (n, d) with k codes, in closed form.

        With ``variance`` s² held fixed, the column of an eigenvalue λ_i <= s² is zero: that code
        carries nothing.

        Equation: :eq:`eq-ae-ppca`, :eq:`eq-vae-collapse`
        """
        d = x.shape[1]
        if not 0 < k < d:
            raise ValueError(f"PPCA needs 0 < k < {d} codes for data of {d} features, but got {k}")
        mean, directions, lam = principal_components(x)
        if variance is not None:
            check_number("variance", variance, above=0)
        s2 = lam[k:].mean() if variance is None else torch.as_tensor(variance).to(lam)
        weight = directions[:, :k] * (lam[:k] - s2).clamp_min(0).sqrt()
        return cls(mean, weight, s2)

    def log_prob(self, x: Flat) -> PerExample:
        """log N(x; μ, WWᵀ + s²I) in nats.

        Equation: :eq:`eq-ae-ppca`
        """
        check_examples(x, tuple(self.mean.shape))
        eye = torch.eye(len(self.mean)).to(self.mean)
        covariance = self.weight @ self.weight.T + self.variance * eye
        return MultivariateNormal(self.mean, covariance).log_prob(x)

    def posterior(self, x: Flat) -> tuple[Codes, Float[Tensor, "z z"]]:
        """Mean (n, k) and covariance (k, k) of p(z | x) = N(M⁻¹Wᵀ(x − μ), s²M⁻¹), M = WᵀW + s²I.

        Equation: :eq:`eq-vae-linpost`
        """
        check_examples(x, tuple(self.mean.shape))
        w, s2 = self.weight, self.variance
        m = w.T @ w + s2 * torch.eye(w.shape[1]).to(w)
        return torch.linalg.solve(m, w.T @ (x - self.mean).T).T, s2 * torch.linalg.inv(m)

    def encode(self, x: Flat) -> MultivariateNormal:
        """p(z | x), with batch shape (n,) and event shape (k,)."""
        return MultivariateNormal(*self.posterior(x), validate_args=False)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Flat:
        """``n`` draws of shape (n, d)."""
        d, k = self.weight.shape
        z = normal_like(self.mean.new_empty(n, k), generator)
        eps = normal_like(self.mean.new_empty(n, d), generator)
        return self.mean + z @ self.weight.T + self.variance.sqrt() * eps


class Autoencoder(Model):
    """A network that maps x to a short code and back, trained on the squared error.

    Args: ``shape`` of one example; ``latent`` size of the code; ``hidden`` units; ``net``
    "linear", "mlp" or "conv".
    """

    def __init__(
        self, *, shape: tuple[int, ...], latent: int, hidden: int = 256, net: str = "mlp"
    ) -> None:
        super().__init__()
        check_count("latent", latent)
        self.shape = check_shape(shape)
        self.encoder = Encoder(shape, latent, hidden=hidden, net=net)
        self.decoder = Decoder(latent, shape, hidden=hidden, net=net)

    @in_evaluation
    def encode(self, x: Batch) -> Codes:
        """Codes f(x) of shape (n, latent)."""
        return self.represent(x)

    def represent(self, x: Batch) -> Codes:
        """The same codes, in the mode that the model is in."""
        self.check(x)
        return self.encoder(as_weights(x, self.encoder))

    def backbone(self) -> list[nn.Module]:
        """The encoder."""
        return [self.encoder]

    @in_evaluation
    def decode(self, z: Codes) -> Batch:
        """Examples g(z) of shape (n, *shape)."""
        return at_least_single(self.decoder(as_weights(z, self.decoder))).squeeze(1)

    @in_evaluation
    def reconstruct(self, x: Batch) -> Batch:
        """r(x) = g(f(x))."""
        return self._reconstruct(x)

    def _reconstruct(self, x: Batch) -> Batch:
        """The same in the mode that the model is in."""
        return at_least_single(self.decoder(self.represent(x))).squeeze(1)

    def loss(self, x: Batch) -> Scalar:
        """The mean over the batch of ‖x − g(f(x))‖², summed over the values of an example.

        Equation: :eq:`eq-ae-pca`
        """
        return squared_error(self._reconstruct(x), x).mean()

    def check(self, x: Tensor) -> None:
        """Raise ValueError where ``x`` does not fit this model."""
        check_examples(x, self.shape)


class DenoisingAutoencoder(Autoencoder):
    """An autoencoder trained to give x back from x + σε.

    Args: ``sigma`` the standard deviation σ of the noise; the others are those of ``Autoencoder``.

    Source: Vincent et al., ICML 2008.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        latent: int,
        sigma: float,
        hidden: int = 256,
        net: str = "mlp",
    ) -> None:
        check_number("sigma", sigma, above=0)
        super().__init__(shape=shape, latent=latent, hidden=hidden, net=net)
        self.sigma = sigma

    def loss(self, x: Batch) -> Scalar:
        """The mean of ‖r(x + σε) − x‖² over the batch, with fresh noise.

        Equation: :eq:`eq-ae-dae`
        """
        self.check(x)
        return denoising_error(self._reconstruct, x, x + self.sigma * torch.randn_like(x)).mean()

    def score(self, x_t: Batch) -> Batch:
        """(r(x_t) − x_t)/σ²: the denoiser's estimate of ∇ log p_σ(x_t).

        Equation: :eq:`eq-ae-tweedie`
        """
        return (self.reconstruct(x_t) - x_t) / self.sigma**2


def squared_error(a: Batch, b: Batch) -> PerExample:
    """‖a − b‖² of each example."""
    return (a - b).square().flatten(1).sum(1)


def denoising_error(r: Callable[[Tensor], Tensor], x: Batch, x_t: Batch) -> PerExample:
    """‖r(x_t) − x‖² of each example; its expectation is least at r*(x_t) = E[x | x_t].

    Equation: :eq:`eq-ae-dae`
    """
    return squared_error(r(x_t), x)


def tweedie(x_t: Batch, score: Batch, sigma: float) -> Batch:
    """E[x | x_t] = x_t + σ² ∇ log p_σ(x_t), from the score at ``x_t``.

    Equation: :eq:`eq-ae-tweedie`

    Source: Robbins 1956; Efron, J. Am. Statist. Assoc. 2011.
    """
    return x_t + sigma**2 * score


def tweedie_covariance(hessian: Float[Tensor, "n d d"], sigma: float) -> Float[Tensor, "n d d"]:
    """Cov[x | x_t] = σ²(I + σ² ∇² log p_σ(x_t)), from the Hessian of log p_σ at x_t.

    Equation: :eq:`eq-ae-tweedie`
    """
    return sigma**2 * (torch.eye(hessian.shape[-1]).to(hessian) + sigma**2 * hessian)


def small_noise_penalty(r: Callable[[Tensor], Tensor], x: Float[Tensor, "d"]) -> Scalar:
    """‖J_r‖² + (r(x) − x)·Δr(x): what noise of variance σ² adds, over σ², to ‖r(x) − x‖².

    The first term alone is the contractive autoencoder's penalty.

    Equation: :eq:`eq-ae-cae`

    Source: Rifai et al., ICML 2011; Alain and Bengio, JMLR 2014.
    """
    jacobian = torch.func.jacrev(r)(x)
    laplacian = torch.func.jacrev(torch.func.jacrev(r))(x).diagonal(dim1=1, dim2=2).sum(1)
    return jacobian.square().sum() + (r(x) - x) @ laplacian


keep_contract(globals())
