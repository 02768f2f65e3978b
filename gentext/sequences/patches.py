"""Images as sequences: rows of square patches, and codes of their places in the plane.

Notation: ``x`` (n, c, h, w) images; ``p`` the side of a patch; N = hw/p² patches of c p² numbers.

Source: Dosovitskiy et al., ICLR 2021.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from gentext.core import check_count
from gentext.core.signatures import keep_contract
from gentext.sequences.attention import sinusoidal_positions

Patches = Float[Tensor, "n places values"]


def patchify(x: Float[Tensor, "n c h w"], p: int) -> Patches:
    """Images as rows of hw/p² patches, line by line, each of its c p² numbers.

    A linear map of them is a convolution of kernel and stride p. Attention among N patches
    multiplies 2 N² d pairs of numbers for features of size d: half the side is 16 times the cost.

    Equation: :eq:`eq-ldm-patch`
    """
    n, c, h, w = x.shape
    if p < 1 or h % p or w % p:
        raise ValueError(
            f"got images of {h} x {w} and patches of side {p}; it must divide both: choose another "
            "patch or pad the images"
        )
    tiles = x.reshape(n, c, h // p, p, w // p, p)
    return tiles.permute(0, 2, 4, 1, 3, 5).reshape(n, h // p * (w // p), c * p * p)


def unpatchify(patches: Patches, shape: Sequence[int], p: int) -> Float[Tensor, "n c h w"]:
    """The images of ``shape`` (c, h, w) that ``patchify`` made the patches of.

    Equation: :eq:`eq-ldm-patch`
    """
    c, h, w = shape
    if patches.shape[1:] != (h // p * (w // p), c * p * p):
        raise ValueError(
            f"got patches {tuple(patches.shape)}; images of {tuple(shape)} have "
            f"(n, {h // p * (w // p)}, {c * p * p}) with side {p}"
        )
    tiles = patches.reshape(-1, h // p, w // p, c, p, p)
    return tiles.permute(0, 3, 1, 4, 2, 5).reshape(-1, c, h, w)


def plane_positions(h: int, w: int, width: int) -> Float[Tensor, "places width"]:
    """Codes of the h w places of a plane, line by line: half of the row, half of the column."""
    if width % 4:
        raise ValueError(
            f"got width={width}; positions in the plane are sines and cosines of rows and of "
            "columns: choose a multiple of 4"
        )
    rows, columns = sinusoidal_positions(h, width // 2), sinusoidal_positions(w, width // 2)
    return torch.cat([rows.repeat_interleave(w, 0), columns.repeat(h, 1)], 1)


def check_patches(shape: Sequence[int], patch: int) -> None:
    """Raise ValueError unless ``shape`` is that of images which patches of this side make up."""
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape must be (channels, height, width), but got {tuple(shape)}")
    check_count("patch", patch)
    if shape[1] % patch or shape[2] % patch:
        raise ValueError(
            f"got images of {shape[1]} x {shape[2]} and patch={patch}; it must divide both sides: "
            "choose another patch or pad the images"
        )


keep_contract(globals())
