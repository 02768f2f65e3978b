"""Items a second of the batches that ``fit`` takes from memory, beside a ``DataLoader``.

``fit`` takes 128 rows at a time of shuffled tensors by their index. The usual way wraps the same
tensors in a ``TensorDataset`` and lets a ``DataLoader`` collect single items; it runs in the main
process, where it is fastest for data this small.
"""

from __future__ import annotations

import statistics

import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks import alternate
from gentext import data
from gentext.training.batches import epoch_batches

BATCH = 128
ITEMS = 60_000  # a round, in whole epochs
ROUNDS = 5


def by_index(tensors: tuple[torch.Tensor, ...], epochs: int) -> None:
    """Whole epochs of shuffled batches, as ``fit`` takes them."""
    for epoch in range(epochs):
        for _ in epoch_batches(tensors, BATCH, epoch=epoch):
            pass


def by_loader(tensors: tuple[torch.Tensor, ...], epochs: int) -> None:
    """As many batches from a ``DataLoader``."""
    loader = DataLoader(TensorDataset(*tensors), batch_size=BATCH, shuffle=True, drop_last=True)
    for _ in range(epochs):
        for _ in loader:
            pass


def compare(tensors: tuple[torch.Tensor, ...]) -> tuple[float, float]:
    """Items a second by index and from a ``DataLoader``, medians of alternating rounds."""
    epochs = max(1, ITEMS // len(tensors[0]))
    seconds = alternate(
        {"index": lambda: by_index(tensors, epochs), "loader": lambda: by_loader(tensors, epochs)},
        rounds=ROUNDS,
    )
    items = epochs * (len(tensors[0]) // BATCH * BATCH)
    index, loader = (items / statistics.median(seconds[name]) for name in ("index", "loader"))
    return index, loader


def main() -> None:
    sets = {"Fashion-MNIST, excerpt": data.load("fashion-mnist").train}
    try:
        sets["Fashion-MNIST, full"] = data.load("fashion-mnist", full=True).train
    except FileNotFoundError as absent:
        print(f"the excerpt only: {absent}")
    print(f"{'items a second':24}{'by index':>14}{'DataLoader':>14}{'ratio':>8}")
    for title, tensors in sets.items():
        index, loader = compare(tensors)
        print(f"{title:24}{index:14,.0f}{loader:14,.0f}{index / loader:8.1f}")


if __name__ == "__main__":
    main()
