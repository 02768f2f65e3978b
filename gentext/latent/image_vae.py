"""A VAE whose codes are maps of a few channels, with a quarter of the image's height and width.

Its codes z are these maps, flattened to rows; all else is that of the VAE.

Notation: as in ``vae``; ``z`` (n, latent) with latent = c h w for maps of ``map`` = (c, h, w).

Source: Rombach et al., CVPR 2022.
"""

from __future__ import annotations

from torch import nn

from gentext.core import check_count, check_shape
from gentext.core.signatures import keep_contract
from gentext.latent.vae import VAE
from gentext.nn.distributions import make_likelihood
from gentext.nn.nets import residual_decoder, residual_encoder


class ImageVAE(VAE):
    """A convolutional VAE of images (c, h, w), h and w divisible by 4, without linear layers.

    Args: ``channels`` of the maps; ``hidden`` channels of the networks, those of the VQ-VAE;
    ``likelihood``, ``levels``, ``scale`` and ``beta`` as for a VAE.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, int, int],
        channels: int = 4,
        hidden: int = 64,
        likelihood: str = "logistic",
        levels: int = 256,
        scale: float | None = None,
        beta: float = 1.0,
    ) -> None:
        if len(check_shape(shape)) != 3 or shape[1] % 4 or shape[2] % 4:
            raise ValueError(
                f"shape must be (c, h, w) with h and w divisible by 4, but got {tuple(shape)}: "
                "crop or pad the images"
            )
        check_count("channels", channels)
        check_count("hidden", hidden, 2)
        maps = (channels, shape[1] // 4, shape[2] // 4)
        per_value = make_likelihood(likelihood, shape, levels=levels, scale=scale).per_value
        super().__init__(
            shape=shape,
            latent=channels * maps[1] * maps[2],
            net=(
                nn.Sequential(residual_encoder(shape[0], 2 * channels, hidden), nn.Flatten()),
                nn.Sequential(
                    nn.Unflatten(1, maps),
                    residual_decoder(channels, per_value * shape[0], hidden),
                    nn.Unflatten(1, (per_value, shape[0])),
                ),
            ),
            likelihood=likelihood,
            levels=levels,
            scale=scale,
            beta=beta,
        )
        self.map = maps


keep_contract(globals())
