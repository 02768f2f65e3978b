"""Masked frames: what is hidden, what the loss is of, and that it is filled in."""

from __future__ import annotations

import itertools

import pytest
import torch
from oracles import F64
from torch import Tensor

import gentext as gt
from gentext.sound import masked_speech
from gentext.sound.recognizer import standardised


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("rate", "span"), [(0.5, 4), (0.3, 1), (0.8, 7)])
def test_each_frame_is_hidden_at_the_rate_also_the_first_and_the_last(
    rate: float, span: int
) -> None:
    n = 20_000
    M = masked_speech.hidden_spans(torch.full((n,), 9), 9, rate=rate, span=span, generator=seeded())
    error = 4 * (rate * (1 - rate) / n) ** 0.5
    assert float((M.double().mean(0) - rate).abs().max()) < error


def test_frames_are_hidden_in_spans_and_padding_never() -> None:
    lengths = torch.randint(12, 21, (200,), generator=seeded())
    M = masked_speech.hidden_spans(lengths, 20, rate=0.3, span=5, generator=seeded(1))
    for row, t in zip(M.tolist(), lengths.tolist(), strict=True):
        assert not any(row[t:])
        runs = [(k, len(list(run))) for k, run in itertools.groupby(row[:t])]
        assert all(size >= 5 for k, size in runs[1:-1] if k)


def test_the_loss_is_the_error_of_hidden_frames_alone() -> None:
    model = gt.MaskedSpeechEncoder(mels=3, hidden=8, rate=0.4, span=3).double().eval()
    x, lengths = torch.randn(4, 15, 3, dtype=F64), torch.tensor([15, 9, 15, 12])
    torch.manual_seed(5)
    loss = model.loss(x, lengths)
    torch.manual_seed(5)
    M = masked_speech.hidden_spans(lengths, 15, rate=0.4, span=3)
    seen = standardised(x, lengths)
    covered = torch.where(M[..., None], model.mask, seen)
    made = model.head(model.net(covered, lengths))
    errors = [(made[i, t] - seen[i, t]).square().mean() for i, t in M.nonzero().tolist()]
    torch.testing.assert_close(loss, torch.stack(errors).mean(), rtol=0, atol=1e-12)


def test_what_is_hidden_is_not_seen() -> None:
    """Other values in hidden frames change nothing but the standardisation, and this leaves 0."""
    model = gt.MaskedSpeechEncoder(mels=2, hidden=8, rate=0.6, span=4).double().eval()
    x, lengths = torch.randn(2, 12, 2, dtype=F64), torch.tensor([12, 12])
    shown, made, M = model.reconstruct(x, lengths, generator=seeded())
    assert made[~M].equal(shown[~M])
    assert bool(M.any())
    assert not bool(M.all())
    seen = standardised(x, lengths).requires_grad_()
    filled = model._fill(seen, lengths, M)
    torch.testing.assert_close(filled[M], made[M])
    (slope,) = torch.autograd.grad(filled.square().sum(), seen)
    assert bool((slope[M] == 0).all())
    assert bool((slope[~M] != 0).any())


def waves(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Bands that rise and fall together, at a phase of their own in each utterance."""
    g = seeded(seed)
    phase = 6.3 * torch.rand(n, 1, 1, generator=g)
    t = torch.arange(24.0)[:, None] / 4 + torch.arange(3.0)
    return torch.sin(t + phase), torch.full((n,), 24)


def test_it_learns_to_fill_in_what_follows_from_the_rest() -> None:
    """Far better than by the mean of each band, whose error is 1."""
    model = gt.MaskedSpeechEncoder(mels=3, hidden=24, dropout=0.0, rate=0.3, span=4)
    config = gt.TrainConfig(steps=60, batch_size=20, lr=0.01)
    gt.fit(model, waves(256, 0), config, progress=False)
    x, lengths = waves(64, 1)
    assert float(model.loss(x, lengths).detach()) < 0.3
    seen, made, M = model.reconstruct(x, lengths, generator=seeded())
    assert float((made - seen)[M].square().mean().detach()) < 0.3
    assert (made == seen)[~M].all()


def test_the_features_are_those_of_the_backbone() -> None:
    model = gt.MaskedSpeechEncoder(mels=3, hidden=8, dropout=0.5)
    x, lengths = torch.randn(2, 9, 3), torch.tensor([9, 4])
    (net,) = model.backbone()
    codes = model.encode(x, lengths)
    assert codes.equal(net.eval()(standardised(x, lengths), lengths))
    assert (codes[1, 4:] == 0).all()
    assert model.encode(x).equal(model.encode(x, torch.tensor([9, 9])))
