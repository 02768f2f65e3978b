"""Masked autoencoders: most patches of an image are hidden, and filled in from those that are not.

The encoder reads the visible patches alone, which makes it cheap, and a light decoder, which is
thrown away afterwards, fills in the others. It is told their places and nothing of their values.
The loss is a squared error, so what is filled in is a mean of what could be there: no sample of it.

Notation: ``x`` (n, c, h, w) images; N patches of ``values`` = c p² numbers, V of them visible and
H = N − V hidden; ``visible`` (n, V) and ``hidden`` (n, H) their places, line by line.

Source: He et al., CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gentext.core import (
    Model,
    as_weights,
    at_least_single,
    check_counts,
    check_dropout,
    check_examples,
    check_heads,
    check_number,
    check_shape,
    drawn_by,
    in_evaluation,
)
from gentext.core.shapes import Batch, Flat, Scalar
from gentext.core.signatures import keep_contract
from gentext.sequences.patches import check_patches, patchify, plane_positions, unpatchify
from gentext.sequences.transformer import TransformerBlock

GREY = 0.5  # of what is hidden, in pictures
START = 0.02  # standard deviation of the mask token at the start
Patches = Float[Tensor, "n _ values"]
Places = Int[Tensor, "n _"]


class MaskedAutoencoder(Model):
    """A Transformer that fills in hidden patches of images in [0, 1], and its codes of images.

    Arguments:
        shape: of an image (c, h, w); patch: the side of the patches, which divides h and w.
        width: of the features, that of the decoder is half of it (a multiple of 8).
        layers, heads, dropout: of the encoder's blocks; decoder_layers: of the decoder.
        rate: share of the patches that are hidden, one at least, and one at least is not.
    """

    positions: Tensor
    decoder_positions: Tensor

    def __init__(
        self,
        *,
        shape: Sequence[int],
        patch: int = 2,
        width: int = 64,
        layers: int = 3,
        heads: int = 4,
        decoder_layers: int = 1,
        rate: float = 0.75,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.shape, self.patch, self.rate = tuple(shape), patch, rate
        counts = {"width": width, "layers": layers, "heads": heads}
        _check_sizes(shape, patch, rate, dropout, **counts, decoder_layers=decoder_layers)
        rows, columns = shape[1] // patch, shape[2] // patch
        values, half = shape[0] * patch**2, width // 2
        self.places = rows * columns
        for name, size in (("positions", width), ("decoder_positions", half)):
            self.register_buffer(name, plane_positions(rows, columns, size), persistent=False)
        self.stem = nn.Linear(values, width)
        self.encoder = _blocks(layers, width, heads, dropout)
        self.narrow = nn.Linear(width, half)
        self.mask = nn.Parameter(START * torch.randn(half))
        self.decoder = _blocks(decoder_layers, half, heads, dropout)
        self.head = nn.Linear(half, values)

    def check(self, x: Tensor) -> None:
        """Raise ValueError for images that do not fit."""
        check_examples(x, self.shape, 0.0, 1.0)

    @in_evaluation
    def encode(self, x: Batch) -> Flat:
        """The mean of the features of all patches, none of them hidden: (n, width)."""
        return self.represent(x)

    def represent(self, x: Batch) -> Flat:
        """The same in the mode that the model is in."""
        patches = self._patches(x)
        every = torch.arange(self.places, device=x.device).expand(len(x), -1)
        return self._read(patches, every).mean(1)

    def backbone(self) -> list[nn.Module]:
        """The encoder: its first layer, its blocks, its last norm."""
        return [self.stem, *self.encoder]

    def loss(self, x: Batch) -> Scalar:
        """The mean squared error of the values of hidden patches, drawn afresh for each image."""
        patches = self._patches(x)
        visible, hidden = split_places(patches, self.rate)
        return hidden_error(self._fill(patches, visible, hidden), patches, hidden)

    @in_evaluation
    def reconstruct(
        self, x: Batch, *, generator: torch.Generator | None = None
    ) -> tuple[Batch, Batch]:
        """Images of which a random share is hidden, by grey, and the same with that filled in."""
        patches = self._patches(x)
        visible, hidden = split_places(patches, self.rate, generator)
        made = at_least_single(self._fill(patches, visible, hidden)).clamp(0, 1)
        made = made.to(patches)
        where = hidden[..., None].expand_as(made)
        both = (patches.scatter(1, where, GREY), patches.scatter(1, where, made))
        covered, filled = (unpatchify(rows, self.shape, self.patch) for rows in both)
        return covered, filled

    def _patches(self, x: Batch) -> Patches:
        self.check(x)
        return patchify(at_least_single(x), self.patch)

    def _read(self, patches: Patches, visible: Places) -> Float[Tensor, "n V width"]:
        """The encoder's features of the visible patches, which are all that it is given."""
        seen = as_weights(_at(patches, visible), self.stem)
        return self.encoder(self.stem(seen) + self.positions[visible])

    def _fill(self, patches: Patches, visible: Places, hidden: Places) -> Patches:
        """The decoder's values of the hidden patches (n, H, values), from the visible ones."""
        h = self.narrow(self._read(patches, visible))
        masks = self.mask.expand(*hidden.shape, -1)
        places = torch.cat([visible, hidden], 1)
        h = torch.cat([h, masks.to(h)], 1) + self.decoder_positions[places]
        return self.head(self.decoder(h)[:, visible.shape[1] :])


def split_places(
    patches: Patches, rate: float, generator: torch.Generator | None = None
) -> tuple[Places, Places]:
    """Places of the visible and of the hidden patches of each image, at random; all have as many.

    Of N patches round(rate N) are hidden, but one at least and N − 1 at most.
    """
    check_number("rate", rate, above=0, below=1)
    n, N, _ = patches.shape
    if N < 2:
        raise ValueError(f"got {N} patches; to hide some and show others takes at least 2")
    H = min(max(round(rate * N), 1), N - 1)
    order = torch.rand(n, N, device=patches.device, **drawn_by(generator)).argsort(1)
    return order[:, H:], order[:, :H]


def hidden_error(made: Patches, patches: Patches, hidden: Places) -> Scalar:
    """The mean over the hidden patches of the squared error of ``made`` (n, H, values)."""
    return (at_least_single(made) - _at(patches, hidden)).square().mean()


def _at(patches: Patches, places: Places) -> Patches:
    """The patches at the places, (n, k) of them."""
    return patches.gather(1, places[..., None].expand(-1, -1, patches.shape[2]))


def _blocks(layers: int, width: int, heads: int, dropout: float) -> nn.Sequential:
    """Blocks, and a norm at their end."""
    blocks = (TransformerBlock(width, heads, dropout=dropout) for _ in range(layers))
    return nn.Sequential(*blocks, nn.LayerNorm(width))


def _check_sizes(
    shape: Sequence[int], patch: int, rate: float, dropout: float, **counts: int
) -> None:
    """Raise ValueError unless there are patches to hide and to show, and heads for both widths."""
    check_patches(check_shape(shape), patch)
    check_counts(**counts)
    check_number("rate", rate, above=0, below=1)
    check_dropout(dropout)
    if shape[1] == shape[2] == patch:
        raise ValueError(f"got patch={patch}, the whole image; choose one that divides its sides")
    width = counts["width"]
    if width % 8:
        raise ValueError(f"got width={width}; the decoder's is half of it: choose a multiple of 8")
    check_heads(width // 2, counts["heads"])


keep_contract(globals())
