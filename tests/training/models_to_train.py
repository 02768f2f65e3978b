"""Small models, data and interruptions that the tests of training share."""

import hashlib
import itertools
import math

import jaxtyping
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gentext.core import Model
from gentext.training.config import TrainConfig
from gentext.training.train import fit


class Denoiser(Model):
    """Small, but with everything that has state: noise, dropout, normalisation, an average."""

    def __init__(self, *, width: int = 8, noise: float = 0.1) -> None:
        super().__init__()
        self.noise = noise
        self.net = nn.Sequential(
            nn.Linear(3, width),
            nn.BatchNorm1d(width, momentum=0.3),
            nn.Tanh(),
            nn.Dropout(0.2),
            nn.Linear(width, 3),
        )

    def loss(self, x):
        return (self.net(x + self.noise * torch.randn_like(x)) - x).square().mean()


class Line(Model):
    """Linear regression, without noise: what training does to it can be computed by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(3, 1)

    def loss(self, x, y):
        return (self.map(x)[:, 0] - y).square().mean()


class Duel(Model):
    """Two turns; the loss of the second also gives the parameter of the first a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in (1.0, 2.0))

    def turns(self):
        return {"first": [self.a], "second": [self.b]}

    def first(self, x):
        return (self.a * self.b.detach() * x).mean() + self.a**2

    def second(self, x):
        return -(self.a * self.b * x).mean() + self.b**2


class Seldom(Duel):
    """The second turn is due in every third step, and only its parameter is averaged."""

    def due(self, turn, step):
        return turn == "first" or step % 3 == 2

    def averaged(self):
        return [self.b]


class Fragile(Denoiser):
    """Breaks at a step, by its loss or by its gradient."""

    def __init__(self, *, at: int, how: str) -> None:
        super().__init__()
        self.at, self.how, self.calls = at, how, 0

    def loss(self, x):
        self.calls += 1
        if self.calls != self.at:
            return super().loss(x)
        if self.how == "loss":
            return super().loss(x) * math.nan
        return super().loss(x) + (self.net[0].weight.sum() - self.net[0].weight.sum()).sqrt()


CONFIG = TrainConfig(
    steps=40,
    batch_size=16,
    lr=0.01,
    warmup=5,
    schedule="cosine",
    weight_decay=0.1,
    clip=0.5,
    ema=0.9,
    seed=3,
    save_every=4,
)


QUIET = {"progress": False}


@pytest.fixture
def unchecked():
    """Types are not checked, as outside the tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def seeded(make, seed=0):
    torch.manual_seed(seed)
    return make()


def examples(n=100, dtype=torch.float32):
    return torch.rand(n, 3, generator=torch.Generator().manual_seed(1), dtype=dtype)


def regression(n=90):
    x = examples(n, torch.float64)
    return x, x @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) + 0.3


def stream(seed=0):
    """Batches whose order is drawn anew every epoch."""
    return DataLoader(TensorDataset(examples(40)), batch_size=16, shuffle=True)


def digest(model, history=None):
    """All bits of the weights, buffers and losses."""
    content = b"".join(t.numpy().tobytes() for t in model.state_dict().values())
    return hashlib.sha256(content + repr(history and history.losses).encode()).hexdigest()


def broken_in(step, model, error=MemoryError):
    """The model, whose loss fails in the middle of a step, counted from 1."""
    loss, calls = model.loss, itertools.count(1)

    def breaking(*batch):
        if next(calls) == step:
            raise error
        return loss(*batch)

    model.loss = breaking
    return model


def interrupted(step, folder, data=None, config=CONFIG, make=Denoiser):
    """A training saved every 4 steps that broke in the middle of ``step``."""
    data = (examples(),) if data is None else data
    with pytest.raises(MemoryError):
        fit(broken_in(step, seeded(make)), data, config, out=folder, **QUIET)
