"""A recognizer on sounds that are made up: two "words" of two bands of tones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from oracles import F64
from torch import Tensor, nn

import gentext as gt
from gentext import checkpoint
from gentext.sound import recognizer
from gentext.sound.ctc import ctc_log_prob, ctc_prefix_beam, greedy_decode

MELS, SYMBOLS, FRAMES = 4, 4, 14


def spoken(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Texts of one to three of 3 letters, each a tone of 2 or 3 frames and silence after it."""
    g = torch.Generator().manual_seed(seed)
    x, y = torch.zeros(n, FRAMES, MELS), torch.zeros(n, 3).long()
    lengths, y_lengths = torch.zeros(n).long(), torch.randint(1, 4, (n,), generator=g)
    for k in range(n):
        t = 1
        for j in range(int(y_lengths[k])):
            letter, long = (int(torch.randint(a, b, (), generator=g)) for a, b in ((1, 4), (2, 4)))
            x[k, t : t + long, letter] = 4
            y[k, j], t = letter, t + long + 1
        lengths[k] = t
    return x + 0.3 * torch.randn(x.shape, generator=g), lengths, y, y_lengths


def small() -> gt.Recognizer:
    return gt.Recognizer(mels=MELS, vocab_size=SYMBOLS, hidden=16, context=1).double().eval()


def test_the_loss_is_the_mean_of_the_exact_probabilities_of_frames() -> None:
    model, (x, lengths, y, y_lengths) = small(), spoken(5, 0)
    log_p = model.log_probs(x.double(), lengths)
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(5, FRAMES, dtype=F64))
    expected = -ctc_log_prob(log_p, y, lengths, y_lengths).mean()
    torch.testing.assert_close(model.loss(x.double(), lengths, y, y_lengths), expected)


def test_padding_makes_no_difference() -> None:
    """Neither values nor gradients: an utterance among longer ones is what it is alone."""
    model, (x, lengths, y, y_lengths) = small(), spoken(5, 0)
    with torch.no_grad():  # of which the padding would say something
        model.head.weight.mul_(9)
        model.head.bias[3] = 1
    x, alone, texts = x.double(), [], []
    for k in range(5):
        t, m = int(lengths[k]), int(y_lengths[k])
        rows = (x[k : k + 1, :t], lengths[k : k + 1], y[k : k + 1, :m], y_lengths[k : k + 1])
        alone.append(model.loss(*rows))
        texts += model.transcribe(*rows[:2])
    shown = torch.arange(FRAMES) < lengths[:, None]
    x = torch.where(shown[..., None], x, 1e3).requires_grad_()
    assert model.transcribe(x, lengths) == texts
    y = torch.where(torch.arange(3) < y_lengths[:, None], y, -9)
    loss = model.loss(x, lengths, y, y_lengths)
    torch.testing.assert_close(loss, torch.stack(alone).mean(), rtol=0, atol=1e-12)
    (slope,) = torch.autograd.grad(loss, x)
    assert bool((slope[~shown] == 0).all())
    assert bool((slope[shown] != 0).any())


def test_the_encoder_is_that_of_its_equations() -> None:
    """Layers on windows of frames, and a recurrence in each direction, frame by frame."""
    net = recognizer.SpeechEncoder(MELS, 8, 1, 0.0).double()
    x, lengths = torch.randn(1, 6, MELS, dtype=F64), torch.tensor([5])
    h = []
    for t in range(5):
        window = [
            x[0, s] if 0 <= s < 5 else torch.zeros(MELS, dtype=F64) for s in (t - 1, t, t + 1)
        ]
        a = torch.einsum("owk,kw->o", net.window.weight, torch.stack(window)) + net.window.bias
        for layer in net.layers:
            a = layer(a.clamp(0, 20))
        h.append(a.clamp(0, 20))

    def run(gru: nn.GRU, frames: list[Tensor]) -> list[Tensor]:
        state, found = torch.zeros(1, 8, dtype=F64), []
        cell = nn.GRUCell(8, 8).double()
        weights = (gru.weight_ih_l0, gru.weight_hh_l0, gru.bias_ih_l0, gru.bias_hh_l0)
        for own, weight in zip(cell.parameters(), weights, strict=True):
            own.data = weight.data
        for frame in frames:
            state = cell(frame[None], state)
            found.append(state[0])
        return found

    sums = zip(run(net.forwards, h), run(net.backwards, h[::-1])[::-1], strict=True)
    expected = torch.stack([a + b for a, b in sums])
    torch.testing.assert_close(net(x, lengths)[0, :5], expected, rtol=0, atol=1e-12)
    assert net(x, lengths)[0, 5].tolist() == [0] * 8


def test_utterances_are_standardised_and_loudness_makes_no_difference() -> None:
    x, lengths = 3 + 5 * torch.randn(2, 7, MELS, dtype=F64), torch.tensor([7, 4])
    found = recognizer.standardised(x, lengths)
    for row, t in zip(found, (7, 4), strict=True):
        assert float(row[:t].mean()) == pytest.approx(0, abs=1e-12)
        assert float(row[:t].std(correction=0)) == pytest.approx(1, rel=1e-5)
        assert bool((row[t:] == 0).all())
    louder = recognizer.standardised(x + torch.tensor([3.0, -1.0])[:, None, None], lengths)
    torch.testing.assert_close(louder, found, rtol=0, atol=1e-12)


def test_it_learns_to_read_tones_without_an_alignment(tmp_path: Path) -> None:
    """By ``fit`` on a data set; a saved model transcribes the same."""
    test = spoken(60, 2)
    data = gt.data.Dataset(name="tones", train=spoken(300, 1), test=test, shape=(FRAMES, MELS))
    model = gt.Recognizer(mels=MELS, vocab_size=SYMBOLS, hidden=24, context=1, dropout=0.0)
    gt.fit(model, data, gt.TrainConfig(steps=60, batch_size=20, lr=0.01), progress=False)
    x, lengths, y, y_lengths = test
    wanted = [tuple(row[:m].tolist()) for row, m in zip(y, y_lengths.tolist(), strict=True)]
    for made in (model.transcribe(x, lengths), model.transcribe(x, lengths, width=4)):
        assert sum(a == b for a, b in zip(made, wanted, strict=True)) >= 57
    log_p = model.log_probs(x, lengths).detach()
    assert model.transcribe(x, lengths) == greedy_decode(log_p, lengths)
    best = ctc_prefix_beam(log_p[0, : lengths[0]], 4, bonus=2.0)[0].y
    assert model.transcribe(x[:1], lengths[:1], width=4, bonus=2.0) == [best]
    again = checkpoint.load(checkpoint.save(tmp_path / "r.safetensors", model))
    assert again.transcribe(x, lengths) == model.transcribe(x, lengths)


def test_it_starts_from_a_pre_trained_encoder(tmp_path: Path) -> None:
    """Of which it takes a copy, with its sizes and weights, to learn at a rate of its own."""
    encoder = gt.MaskedSpeechEncoder(mels=MELS, hidden=12, context=2)
    model = gt.Recognizer(mels=MELS, vocab_size=SYMBOLS, encoder=encoder, rate=0.1)
    for own, given in zip(model.net.parameters(), encoder.net.parameters(), strict=True):
        assert own.equal(given)
        assert own is not given
    assert set(model.rates()) == set(model.net.parameters())
    assert set(model.rates().values()) == {0.1}
    with torch.no_grad():
        next(model.net.parameters()).add_(1)
    again = checkpoint.load(checkpoint.save(tmp_path / "r.safetensors", model))
    x, lengths, *_ = spoken(3, 0)
    assert again.log_probs(x, lengths).equal(model.log_probs(x, lengths))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x, t: m.loss(x[..., :3], t, t[:, None], t), r"\(2, 9, 3\).*\(n, t, 4\)"),
        (lambda m, x, t: m.log_probs(x.long(), t), "int64.*floating-point"),
        (lambda m, x, t: m.log_probs(x.log(), t), "NaN or infinite"),
        (lambda m, x, t: m.log_probs(x, t + 9), "lengths from 10 to 10"),
        (lambda m, x, t: m.check(x, t, torch.tensor([[2, 2]] * 2), 2 * t), "utterance 0 has 1"),
        (lambda m, x, t: m.check(x, t, torch.tensor([[4]] * 2), t), "0 to 3"),
        (lambda m, x, t: m.transcribe(x, t, language_model=lambda y: [0.0] * 4), "give width"),
        (lambda m, x, t: gt.Recognizer(mels=3, vocab_size=4, encoder=pre_trained()), "mels=3"),
        (lambda m, x, t: gt.Recognizer(mels=4, vocab_size=4, encoder=m), "a Recognizer has no"),
        (lambda m, x, t: gt.Recognizer(mels=4, vocab_size=1), "vocab_size"),
        (lambda m, x, t: gt.Recognizer(mels=4, vocab_size=4, rate=0), "rate=0"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_is_refused_in_words(call, message: str) -> None:
    """Of utterances of one frame each, in rows of nine."""
    x = torch.randn(2, 9, MELS, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=message):
        call(small(), x, torch.tensor([1, 1]))


def pre_trained() -> gt.MaskedSpeechEncoder:
    return gt.MaskedSpeechEncoder(mels=MELS, hidden=8)
