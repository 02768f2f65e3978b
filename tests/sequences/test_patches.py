"""Patches against pieces of the image and convolutions, places against sines written out."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gentext.sequences.attention import scaled_dot_product_attention
from gentext.sequences.patches import check_patches, patchify, plane_positions, unpatchify

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.equation("eq-ldm-patch")
@pytest.mark.parametrize("p", [1, 2, 3])
def test_patches_are_pieces_of_the_image_line_by_line(p: int) -> None:
    x = torch.randn(2, 4, 6, 12)
    patches = patchify(x, p)
    assert patches.shape == (2, 6 * 12 // p**2, 4 * p * p)
    place = 0
    for i in range(0, 6, p):
        for j in range(0, 12, p):
            assert patches[:, place].equal(x[:, :, i : i + p, j : j + p].flatten(1))
            place += 1
    assert unpatchify(patches, (4, 6, 12), p).equal(x)


@pytest.mark.equation("eq-ldm-patch")
def test_a_linear_map_of_patches_is_a_strided_convolution() -> None:
    x, layer = torch.randn(2, 4, 8, 6), nn.Conv2d(4, 5, 2, stride=2)
    mapped = F.linear(patchify(x, 2), layer.weight.flatten(1), layer.bias)
    torch.testing.assert_close(mapped.mT.unflatten(2, (4, 3)), layer(x), atol=1e-12, rtol=0)
    back = nn.ConvTranspose2d(5, 3, 2, stride=2, bias=False)
    wide = F.linear(mapped, back.weight.flatten(1).T)
    torch.testing.assert_close(unpatchify(wide, (3, 8, 6), 2), back(layer(x)), atol=1e-12, rtol=0)


@pytest.mark.equation("eq-ldm-patch")
def test_half_the_side_of_a_patch_makes_attention_sixteen_times_as_dear() -> None:
    x, d, counted = torch.randn(1, 2, 8, 8), 2 * 4 * 4, []
    for p in (4, 2):
        q = F.pad(patchify(x, p), (0, d - 2 * p * p))  # features of the same size
        with FlopCounterMode(display=False) as counter:
            scaled_dot_product_attention(q, q, q)
        counted.append(counter.get_total_flops())
        N = 64 // p**2
        assert counted[-1] == 4 * N**2 * d
    assert counted[1] == 16 * counted[0]


def test_places_of_the_plane_are_a_code_of_the_row_and_one_of_the_column() -> None:
    codes = plane_positions(3, 5, 8).view(3, 5, 8)
    for i in range(3):
        for j in range(5):
            for k in range(2):
                angle = 10_000 ** (-2 * k / 4)
                expected = [f(angle * place) for place in (i, j) for f in (math.sin, math.cos)]
                found = codes[i, j, [2 * k, 2 * k + 1, 4 + 2 * k, 5 + 2 * k]]
                torch.testing.assert_close(found, torch.tensor(expected), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("shape", "patch", "message"),
    [
        ((8, 8), 2, "channels, height, width"),
        ((1, 0, 8), 2, "channels, height, width"),
        ((1, 8, 8), 0, "patch"),
        ((1, 8, 9), 2, "8 x 9 and patch=2"),
    ],
)
def test_what_patches_cannot_make_up_is_refused(shape, patch: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_patches(shape, patch)
