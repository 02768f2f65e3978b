"""Both networks against enumeration, torch.nn and their own equations; decoding with a memory."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from oracles import minimize
from torch import Tensor, nn

from gentext.core import Translates
from gentext.sequences.attention import sinusoidal_positions
from gentext.sequences.seq2seq import Seq2Seq, label_smoothing_loss, smoothing_optimum
from gentext.sequences.seq2seq_nets import NETS
from gentext.tokens.tokenizer import BOS, EOS, PAD

pytestmark = pytest.mark.usefixtures("float64")
both = pytest.mark.parametrize("net", list(NETS))


def small(net: str, **arguments) -> Seq2Seq:
    sizes = {"vocab_size": 9, "net": net, "width": 8, "layers": 2, "heads": 2, "context": 12}
    model = Seq2Seq(**{**sizes, **arguments}).double().eval()
    for parameter in model.parameters():  # biases too, which begin as zeros
        nn.init.normal_(parameter, std=0.5)
    return model


def batch(rows: int = 3, length: int = 6, vocabulary: int = 9) -> Tensor:
    """Rows of different lengths: tokens, EOS, padding."""
    tokens = torch.randint(EOS + 1, vocabulary, (rows, length))
    for k, row in enumerate(tokens):
        end = max(1, length - 1 - k)
        row[end], row[end + 1 :] = EOS, PAD
    return tokens


@pytest.mark.equation("eq-attn-labelsmooth")
def test_label_smoothing_is_that_of_torch() -> None:
    logits, targets = torch.randn(4, 5, 7), torch.randint(7, (4, 5))
    targets[1, 2:] = -2
    for smoothing in (0.0, 0.1, 0.7):
        expected = F.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), label_smoothing=smoothing, ignore_index=-2
        )
        found = label_smoothing_loss(logits, targets, smoothing, ignore=-2)
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    assert label_smoothing_loss(logits, torch.full((4, 5), -2), 0.1, ignore=-2) == 0


@pytest.mark.equation("eq-attn-labelsmooth")
@pytest.mark.parametrize(("smoothing", "classes"), [(0.1, 7), (0.3, 4)])
def test_the_best_logits_under_smoothing_are_finite(smoothing: float, classes: int) -> None:
    """Against the optimum that a quasi-Newton method finds."""
    logits = torch.zeros(classes, requires_grad=True)
    target = torch.tensor([2])
    least = minimize(lambda: label_smoothing_loss(logits[None], target, smoothing), [logits])
    floor, gap = smoothing_optimum(smoothing, classes)
    assert abs(least - floor) < 1e-9
    best = logits.detach()
    others = best[torch.arange(classes) != 2]
    torch.testing.assert_close(best[2] - others, torch.full((classes - 1,), gap), atol=1e-5, rtol=0)


def texts(length: int, vocabulary: int) -> tuple[Tensor, Tensor]:
    """All texts that end within ``length`` tokens, and all that have not ended by then."""
    words = [t for t in range(vocabulary) if t not in (PAD, BOS, EOS)]
    ended = [
        [*text, EOS, *[PAD] * (length - 1 - n)]
        for n in range(length)
        for text in itertools.product(words, repeat=n)
    ]
    return torch.tensor(ended), torch.tensor(list(itertools.product(words, repeat=length)))


@both
def test_probabilities_of_all_texts_sum_to_one(net: str) -> None:
    model = small(net, vocab_size=6)
    for source in batch(2, 4, 6):
        ended, unfinished = texts(4, 6)
        every = torch.cat([ended, unfinished])
        log_p = model.log_prob(source.expand(len(every), -1), every)
        torch.testing.assert_close(log_p.exp().sum(), torch.tensor(1.0), atol=1e-12, rtol=0)
        for text in ended[:5]:  # a text is the start of all that go on from it
            start = text[: int((text != PAD).sum()) - 1]
            if len(start):
                going = model.log_prob(source[None], start[None]).exp()
                on = torch.tensor([[*start.tolist(), k] for k in (EOS, 3, 4, 5)])
                sums = model.log_prob(source.expand(4, -1), on).exp().sum()
                torch.testing.assert_close(sums, going[0], atol=1e-12, rtol=0)


@both
def test_loss_without_smoothing_is_the_likelihood_of_a_token(net: str) -> None:
    model = small(net, smoothing=0.0)
    source, target = batch(), batch()
    tokens = (target != PAD).sum()
    torch.testing.assert_close(
        model.loss(source, target), -model.log_prob(source, target).sum() / tokens
    )


@both
@pytest.mark.equation("eq-attn-labelsmooth")
def test_loss_smooths_over_the_tokens_that_can_come(net: str) -> None:
    model = small(net, smoothing=0.2)
    source, target = batch(), batch()
    log_p = model.logits(source, target).log_softmax(-1)[..., EOS:]
    total, count = 0.0, 0
    for n, t in itertools.product(range(3), range(6)):
        if target[n, t] != PAD:
            total -= 0.8 * log_p[n, t, target[n, t] - EOS] + 0.2 / 7 * log_p[n, t].sum()
            count += 1
    torch.testing.assert_close(model.loss(source, target), total / count)


def test_the_transformer_embeds_scales_and_ties_as_in_the_paper() -> None:
    model = small("transformer")
    source, target = torch.randint(3, 9, (2, 5)), torch.randint(3, 9, (2, 4))
    table, blocks = model.embedding.weight, model.net.blocks
    before = torch.cat([torch.full((2, 1), BOS), target[:, :-1]], dim=1)
    x = table[source] * 8**0.5 + sinusoidal_positions(5, 8)
    y = table[before] * 8**0.5 + sinusoidal_positions(4, 8)
    expected = blocks.decode(y, blocks.encode(x)) @ table[EOS:].T + model.bias
    found = model.logits(source, target)
    torch.testing.assert_close(found[..., EOS:], expected, atol=1e-12, rtol=0)
    assert (found[..., :EOS] == -math.inf).all()


@both
def test_a_prediction_does_not_depend_on_what_comes_later(net: str) -> None:
    model = small(net)
    source, target = batch(1), torch.randint(3, 9, (1, 6))
    embedded = model._embed(target).detach().requires_grad_()
    shown = source != PAD
    h = model.net.write(embedded, model.net.read(model._embed(source), shown), shown)
    for t in range(6):
        (gradient,) = torch.autograd.grad(h[0, t].sum(), embedded, retain_graph=True)
        assert (gradient[0, t + 1 :] == 0).all()
        assert (gradient[0, : t + 1].abs().sum(-1) > 0).all()
    other = target.clone()
    other[0, 3] = (target[0, 3] - 2) % 6 + 3
    change = (model.logits(source, other) - model.logits(source, target))[..., EOS:].abs().sum(-1)
    assert (change[0, :4] == 0).all()  # token 3 itself is predicted before it is read
    assert (change[0, 4:] > 0).all()


@both
def test_every_token_of_the_source_matters(net: str) -> None:
    model = small(net)
    source, target = F.pad(batch(1), (0, 2)), batch(1)
    embedded = model._embed(source).detach().requires_grad_()
    shown = source != PAD
    memory = model.net.read(embedded, shown)
    for place in range(6):
        (gradient,) = torch.autograd.grad(memory[0, place].sum(), embedded, retain_graph=True)
        assert (gradient[0, :6].abs().sum(-1) > 0).all()
        assert (gradient[0, 6:] == 0).all()
    h = model.net.write(model._embed(target), memory, shown)
    (gradient,) = torch.autograd.grad(h[0, 0].sum(), embedded)
    assert (gradient[0, :6].abs().sum(-1) > 0).all()


@both
def test_padding_changes_nothing(net: str) -> None:
    model = small(net)
    source, target = batch(), batch()
    longer, wider = F.pad(source, (0, 4)), F.pad(target, (0, 3))
    close = {"atol": 1e-12, "rtol": 0}
    logits = model.logits(source, target)[..., EOS:]
    torch.testing.assert_close(model.logits(longer, wider)[:, :6, EOS:], logits, **close)
    torch.testing.assert_close(model.log_prob(longer, wider), model.log_prob(source, target))
    torch.testing.assert_close(model.loss(longer, wider), model.loss(source, target), **close)
    alone = [model.translate(row[None, : int((row != PAD).sum())])[0] for row in source]
    for text, row in zip(alone, model.translate(longer), strict=True):
        assert row[: len(text)].tolist() == text.tolist()
        assert (row[len(text) :] == PAD).all()


@both
def test_decoding_with_a_memory_equals_reading_all_anew(net: str) -> None:
    model = small(net)
    source, target = batch(), torch.randint(3, 9, (3, 7))
    shown = source != PAD
    state = model.net.begin(model.net.read(model._embed(source), shown), shown, 7)
    expected = model.logits(source, target)
    before = torch.cat([torch.full((3, 1), BOS), target[:, :-1]], dim=1)
    for t in range(7):
        logits, state = model._step(before[:, t], state)
        torch.testing.assert_close(logits, expected[:, t], atol=1e-12, rtol=0)


@both
def test_it_translates(net: str) -> None:
    assert isinstance(small(net), Translates)


@both
def test_greedy_translation_takes_the_most_probable_token_each_time(net: str) -> None:
    model = small(net).train()
    source = batch(8, 7)
    found = model.translate(source, length=9)
    assert model.training
    model.eval()
    text = torch.empty(8, 0, dtype=torch.long)
    for _ in range(9):
        logits = model.logits(source, F.pad(text, (0, 1), value=PAD))[:, -1]
        ended = (text == EOS).any(1)
        text = torch.cat([text, logits.argmax(-1).masked_fill(ended, PAD)[:, None]], dim=1)
    assert found.tolist() == text[:, : found.shape[1]].tolist()
    assert (text[:, found.shape[1] :] == PAD).all()


@both
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_a_wide_beam_finds_the_best_of_all_texts(net: str, length_penalty: float) -> None:
    model = small(net, vocab_size=5)
    source = batch(3, 5, 5)
    ended, unfinished = texts(4, 5)
    every = torch.cat([ended, unfinished])
    lengths = (every != PAD).sum(1)
    found = model.translate(source, width=5**3, length=4, length_penalty=length_penalty)
    for row, text in zip(source, F.pad(found, (0, 4 - found.shape[1])), strict=True):
        score = model.log_prob(row.expand(len(every), -1), every)
        best = (score / ((5 + lengths) / 6) ** length_penalty).argmax()
        assert text.tolist() == every[best].tolist()
    assert not torch.equal(found, model.translate(source, length=4))  # greedy is not enough here


@both
def test_translations_end_once_or_fill_the_length(net: str) -> None:
    model = small(net)
    source = batch(20, 8)
    for width in (1, 3):
        found = model.translate(source, width=width, length=6)
        for row in found.tolist():
            text = row[: row.index(PAD)] if PAD in row else row
            assert BOS not in text
            assert EOS not in text[:-1]
            assert text[-1] == EOS or len(text) == 6
            assert set(row[len(text) :]) <= {PAD}


def test_attention_maps_are_the_weights_of_every_block() -> None:
    model = small("transformer")
    source, target = batch(), batch()
    maps = model.attention(source, target)
    assert maps.shape == (3, 2, 2, 6, 6)
    blocks, shown = model.net.blocks, source != PAD
    memory = model.net.read(model._embed(source), shown)
    before = torch.cat([torch.full((3, 1), BOS), target[:, :-1]], dim=1)
    y = model._embed(before) + sinusoidal_positions(6, 8)
    for k, block in enumerate(blocks.decoder):
        h = y + block.attention(block.norm1(y), causal=True)
        asked = block.norm_cross(h)
        expected = block.cross.weights(asked, memory, mask=shown[:, None, None])
        torch.testing.assert_close(maps[:, k], expected, atol=1e-12, rtol=0)
        y = block(y, memory, memory_mask=shown[:, None, None], causal=True)
    assert not any(module._forward_pre_hooks for module in model.modules())  # no trace of looking


@both
def test_attention_maps_are_distributions_over_the_source(net: str) -> None:
    model = small(net)
    source, target = batch(), batch(3, 4)
    maps = model.attention(source, target)
    assert maps.shape[3:] == (4, 6)
    torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:-1]))
    hidden = (source == PAD)[:, None, None, None].expand_as(maps)
    assert (maps[hidden] == 0).all()
    assert (maps[~hidden] > 0).all()


@both
def test_what_is_shown_and_written_is_that_of_evaluation_mode_which_is_left_as_it_was(
    net: str,
) -> None:
    """With an embedding that is kept in evaluation mode while the rest is trained."""
    model = small(net, dropout=0.5)
    source, target = batch(), batch()
    maps, text = model.attention(source, target), model.translate(source)
    model.train()
    model.embedding.eval()
    modes = [module.training for module in model.modules()]
    torch.testing.assert_close(model.attention(source, target), maps, atol=0, rtol=0)
    assert torch.equal(model.translate(source), text)
    assert [module.training for module in model.modules()] == modes


@both
def test_the_loss_runs_on_a_device_without_values(net: str) -> None:
    """A tensor made on the CPU by mistake fails on the meta device as it would on a GPU."""
    model = small(net, dropout=0.1).to("meta").train()
    source, target = batch().to("meta"), batch().to("meta")
    model.loss(source, target).backward()
    assert model.log_prob(source, target).device.type == "meta"
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"net": "lstm"}, "'lstm'.*transformer, gru"),
        ({"layers": 0}, "layers=0.*at least 1"),
        ({"context": 0}, "context=0.*at least 1"),
        ({"vocab_size": 2}, "vocab_size=2.*at least 3"),
        ({"smoothing": 1.0}, "smoothing must be at least 0 and below 1"),
        ({"net": "gru", "width": 7}, "width must be even"),
        ({"dropout": 1.5}, "1.5"),
        ({"width": 9}, "width=9"),
    ],
)
def test_impossible_models_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Seq2Seq(**{"vocab_size": 9, "width": 8, "heads": 2, **arguments})


@both
def test_impossible_data_are_refused(net: str) -> None:
    model = small(net)
    good = batch()
    gap = good.clone()
    gap[0, 1] = PAD
    empty = good.clone()
    empty[2] = PAD
    for call, message in [
        (lambda: model.loss(good + 7, good), "source tokens from 7.*0 to 8"),
        (lambda: model.log_prob(good, good - 1), "target tokens from -1"),
        (lambda: model.loss(gap, good), "source has a row.*padding before its end"),
        (lambda: model.loss(good, empty), "target has a row that is empty"),
        (lambda: model.translate(empty), "source has a row that is empty"),
        (lambda: model.translate(good[:0]), "0 rows of 6 source"),
        (lambda: model.translate(batch(3, 13)), "3 rows of 13.*1 to 12"),
        (lambda: model.check(good[0], good[0]), r"\(6,\)"),
        (lambda: model.check(good.double(), good), "float64.*integers"),
        (lambda: model.check(good), "1 tensors of 3 rows.*source and target"),
        (lambda: model.loss(good, good[:2]), "3, 2 rows"),
        (lambda: model.translate(good, width=0), "width=0"),
        (lambda: model.translate(good, length=13), "length must be 1 to 12.*13"),
        (lambda: model.translate(good, length=0), "length must be 1 to 12.*0"),
        (lambda: smoothing_optimum(0.0, 5), "between 0 and 1.*0.0"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
