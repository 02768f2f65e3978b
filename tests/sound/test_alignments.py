"""The lattice of alignments: what it needs, and that it is the same in both directions."""

from __future__ import annotations

import itertools

import pytest
import torch
from oracles import F64

from gentext.sound import alignments


def test_hello_needs_six_frames() -> None:
    letters = "helo"
    y = torch.tensor([[letters.index(c) + 1 for c in "hello"]])
    assert alignments.frames_needed(y).tolist() == [6]


def test_frames_needed_are_the_length_of_the_shortest_path() -> None:
    """Of all rows of up to three labels, by looking at all paths of up to five frames."""
    shortest: dict[tuple[int, ...], int] = {}
    for t in range(6):
        for path in itertools.product(range(3), repeat=t):
            y = tuple(k for k, _ in itertools.groupby(path) if k)
            shortest.setdefault(y, t)
    rows = [y for n in range(4) for y in itertools.product((1, 2), repeat=n)]
    y = torch.tensor([[*row, *[row[-1] if row else 1] * (3 - len(row))] for row in rows])
    found = alignments.frames_needed(y, torch.tensor([len(row) for row in rows]))
    assert found.tolist() == [shortest[row] for row in rows]


def test_the_lattice_backwards_has_the_same_total() -> None:
    log_p = torch.randn(3, 8, 4, dtype=F64).log_softmax(-1)
    y = torch.tensor([[1, 1, 2], [3, 2, 0], [0, 0, 0]])
    lengths, y_lengths = torch.tensor([8, 5, 3]), torch.tensor([3, 2, 0])
    paths = alignments.lattice(log_p, y, lengths, y_lengths, 0)
    back = paths.reversed()
    torch.testing.assert_close(
        paths.total(paths.alphas()), back.total(back.alphas()), rtol=0, atol=1e-12
    )
    assert back.l[0].tolist() == [0, 2, 0, 1, 0, 1, 0]
    assert back.l[1, :5].tolist() == [0, 2, 0, 3, 0]
    again = back.reversed()
    assert again.e.equal(paths.e)
    assert again.l.equal(paths.l)


def test_frames_are_mirrored_within_their_utterance() -> None:
    x = torch.arange(8.0).reshape(2, 4, 1)
    found = alignments.mirror(x, torch.tensor([4, 2]))[..., 0]
    assert found.tolist() == [[3, 2, 1, 0], [5, 4, 6, 7]]


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32])
def test_lengths_of_any_integers_are_the_same(dtype: torch.dtype) -> None:
    found = alignments.check_lengths("lengths", torch.tensor([1, 3], dtype=dtype), torch.ones(2, 3))
    assert found.dtype == torch.int64
    assert found.tolist() == [1, 3]
