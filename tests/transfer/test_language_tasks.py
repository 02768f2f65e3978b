"""Decoders on encoders against enumeration and a Seq2Seq; summaries and copies against loops."""

from __future__ import annotations

import copy
import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_models import built, tokens
from torch import Tensor, nn

import gentext as gt
from gentext import checkpoint
from gentext.core import Translates
from gentext.evaluation.language import rouge_l, rouge_n, translation_scores
from gentext.evaluation.report import evaluate
from gentext.sequences.attention import sinusoidal_positions
from gentext.tokens.tokenizer import EOS, PAD, CharTokenizer, rows
from gentext.training.config import TrainConfig
from gentext.training.train import fit
from gentext.transfer.language_tasks import (
    EncoderDecoder,
    Extractive,
    copy_log_prob,
    lead,
    oracle_extract,
    sentence_rows,
)

pytestmark = pytest.mark.usefixtures("float64")
CLOSE: dict[str, Any] = {"atol": 1e-12, "rtol": 0}
KINDS = [gt.BERT, gt.OriginalBERT]
both = pytest.mark.parametrize("kind", KINDS)
VOCABULARY, LENGTH = 6, 4


def bert(kind: type[gt.BERT] = gt.BERT, **given: Any) -> gt.BERT:
    sizes = {"vocab_size": VOCABULARY, "context": 8, "layers": 2, "heads": 2, "width": 8, "pad": 0}
    return _noisy(kind(**{**sizes, "dropout": 0.0, **given}))


def small(kind: type[gt.BERT] = gt.BERT, **given: Any) -> EncoderDecoder:
    sizes = {"vocab_size": VOCABULARY, "layers": 2, "heads": 2, "context": 8, "dropout": 0.0}
    return _noisy(EncoderDecoder(**{"encoder": bert(kind), **sizes, **given})).eval()


def _noisy(model: Any) -> Any:
    """With all weights at random, biases too, which begin as zeros."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


def batch(n: int = 3, length: int = 6) -> Tensor:
    """Rows of different lengths: tokens, EOS, padding."""
    x = torch.randint(EOS + 1, VOCABULARY, (n, length))
    for k, row in enumerate(x):
        end = max(1, length - 1 - k)
        row[end], row[end + 1 :] = EOS, PAD
    return x


def texts() -> Tensor:
    """All texts that end within four tokens, and all that have not ended by then."""
    words = range(EOS + 1, VOCABULARY)
    ended = [
        [*text, EOS, *[PAD] * (LENGTH - 1 - n)]
        for n in range(LENGTH)
        for text in itertools.product(words, repeat=n)
    ]
    return torch.tensor([*ended, *map(list, itertools.product(words, repeat=LENGTH))])


# Encoder and decoder


@pytest.mark.equation("eq-bert-decoder")
@both
def test_probabilities_of_all_texts_sum_to_one(kind: type[gt.BERT]) -> None:
    model, every = small(kind), texts()
    for source in batch():
        log_p = model.log_prob(source.expand(len(every), -1), every)
        torch.testing.assert_close(log_p.exp().sum(), torch.tensor(1.0), **CLOSE)


@both
def test_a_wide_beam_finds_the_best_of_all_texts(kind: type[gt.BERT]) -> None:
    model, every, source = small(kind), texts(), batch()
    assert isinstance(model, Translates)
    found = model.translate(source, width=4**3, length=LENGTH)
    for row, text in zip(source, F.pad(found, (0, LENGTH - found.shape[1])), strict=True):
        best = model.log_prob(row.expand(len(every), -1), every).argmax()
        assert text.tolist() == every[best].tolist()


def test_it_is_a_seq2seq_where_the_encoder_is_that_of_one() -> None:
    """A BERT with sinusoids for positions, and with embeddings of the same size."""
    model = small(smoothing=0.2)
    other = _noisy(
        gt.Seq2Seq(vocab_size=VOCABULARY, width=8, heads=2, context=8, dropout=0.0, smoothing=0.2)
    )
    reader = model.encoder
    with torch.no_grad():
        reader.tokens.weight[:VOCABULARY] = other.embedding.weight * math.sqrt(8)
        reader.positions.weight.copy_(sinusoidal_positions(8, 8))
        reader.blocks.load_state_dict(other.net.blocks.encoder.state_dict())
        reader.norm.load_state_dict(other.net.blocks.encoder_norm.state_dict())
    shared = {k: v for k, v in other.state_dict().items() if "encoder" not in k}
    left = model.load_state_dict(shared, strict=False)
    assert not left.unexpected_keys
    assert all(name.startswith("encoder.") for name in left.missing_keys)
    x, y = batch(), batch()
    for ours, theirs in (
        (model.loss(x, y), other.loss(x, y)),
        (model.log_prob(x, y), other.log_prob(x, y)),
        (model.attention(x, y), other.attention(x, y)),
    ):
        torch.testing.assert_close(ours, theirs, **CLOSE)
    for width in (1, 3):
        assert model.translate(x, width=width).equal(other.translate(x, width=width))


@both
def test_the_target_depends_on_every_token_of_the_source_and_on_no_padding(
    kind: type[gt.BERT],
) -> None:
    model, x, y = small(kind), batch(), batch()
    logits = model.logits(x, y)[..., EOS:]
    wider = model.logits(F.pad(x, (0, 2)), F.pad(y, (0, 1)))[:, :6, EOS:]
    torch.testing.assert_close(wider, logits, **CLOSE)
    for place in range(4):
        other = x.clone()
        other[:, place] = (x[:, place] - EOS) % 3 + EOS + 1
        assert (model.logits(other, y)[:, 0, EOS:] != logits[:, 0]).any(1).all()


def test_a_step_of_the_encoder_is_shorter_by_its_rate() -> None:
    """The first step of Adam is as long as the learning rate, whatever the gradient is."""
    given = bert(dropout=0.0)
    before = copy.deepcopy(given.state_dict())
    model = small(encoder=given, rate=0.25)
    start = copy.deepcopy(model.state_dict())
    config = TrainConfig(steps=1, batch_size=3, lr=1e-3, weight_decay=0.0)
    fit(model, (batch(), batch()), config, progress=False)
    moved = {k: (v - start[k]).abs().max() for k, v in model.state_dict().items()}
    assert moved["encoder.bias"] == 0  # of predicted tokens, which are not asked for
    for name in ("encoder.tokens.weight", "encoder.blocks.0.norm1.bias", "encoder.norm.weight"):
        torch.testing.assert_close(moved[name], torch.tensor(0.25e-3), atol=1e-7, rtol=0)
    for name in ("embedding.weight", "bias", "net.blocks.decoder_norm.weight"):
        torch.testing.assert_close(moved[name], torch.tensor(1e-3), atol=1e-7, rtol=0)
    assert all(value.equal(given.state_dict()[key]) for key, value in before.items())
    assert small(rate=1.0).rates() == {}


@pytest.mark.parametrize("name", ["frozen original BERT and decoder", "extractive"])
def test_an_encoder_with_the_rate_0_stays_as_it_is_to_the_bit(name: str) -> None:
    model, data = built(name)
    if name == "extractive":
        model = Extractive(**{**model.arguments, "rate": 0.0})
    before = copy.deepcopy(model.state_dict())
    config = TrainConfig(steps=3, batch_size=4, lr=0.01, weight_decay=0.1)
    fit(model, data, config, progress=False)
    same = {k for k, v in model.state_dict().items() if v.equal(before[k])}
    assert same == {k for k in before if k.startswith("encoder.")}
    features = model.train().encoder.represent(data[0])
    assert features.equal(model.encoder.represent(data[0]))  # without dropout


@pytest.mark.parametrize("name", ["encoder and decoder", "extractive"])
def test_every_weight_that_learns_has_a_gradient(name: str) -> None:
    model, data = built(name)
    model.eval()(*data).backward()
    for key, p in model.named_parameters():
        assert p.requires_grad == (key != "encoder.bias"), key
        assert p.requires_grad == (p.grad is not None), key
    assert not any(key.startswith("net.blocks.encoder") for key in model.state_dict())


@pytest.mark.parametrize("name", ["frozen original BERT and decoder", "extractive"])
def test_it_is_saved_and_loaded_with_its_encoder(name: str, tmp_path: Path) -> None:
    model, data = built(name)
    _noisy(model).eval()
    again = checkpoint.load(checkpoint.save(tmp_path / "m.safetensors", model))
    assert type(again) is type(model)
    assert again(*data).equal(model(*data))
    learns = [[k for k, p in m.named_parameters() if p.requires_grad] for m in (model, again)]
    assert learns[0] == learns[1]


def test_its_translations_are_evaluated_as_all_are() -> None:
    tokenizer = CharTokenizer("abcdefgh")
    x, y = (rows(tokenizer, some, 8) for some in (["abc", "hgfe"], ["cba", "efgh"]))
    sizes: dict[str, Any] = {"vocab_size": tokenizer.size, "heads": 2}
    reader = bert(vocab_size=tokenizer.size)
    model = _noisy(EncoderDecoder(encoder=reader, context=8, **sizes)).eval()
    data = gt.data.Dataset(name="own", train=(x, y), test=(x, y), shape=(8,), tokenizer=tokenizer)
    made = [tokenizer.decode(row) for row in model.translate(x).tolist()]
    expected = translation_scores(made, ["cba", "efgh"])
    assert evaluate(model, data) == {**expected, "n": 2}


# Summaries


def summariser(**given: Any) -> tuple[Extractive, Tensor, Tensor]:
    """With three texts of 3, 2 and 1 sentences, of which one place of each is in none."""
    model = _noisy(Extractive(**{"encoder": bert(vocab_size=11), "sentences": 4, **given}))
    x, none = tokens()[:3], -1
    x[:, 7] = PAD
    segments = torch.tensor(
        [
            [0, 0, 1, 1, 1, 2, none, none],
            [0, 1, 1, 1, none, none, none, none],
            [none, 0, 0, 0, 0, 0, 0, none],
        ]
    )
    return model.eval(), x, segments


def test_sentences_are_scored_by_the_mean_of_their_features() -> None:
    model, x, segments = summariser()
    logits, h = model.logits(x, segments), model.encoder.encode(x)
    for n, i in itertools.product(range(3), range(4)):
        inside = [h[n, j] for j in range(8) if segments[n, j] == i]
        if not inside:
            assert logits[n, i] == -math.inf
            continue
        mean = torch.stack(inside).mean(0)
        torch.testing.assert_close(model.features(x, segments)[n, i], mean, **CLOSE)
        torch.testing.assert_close(logits[n, i], model.head(mean)[0], **CLOSE)


def test_the_loss_is_that_of_the_sentences_that_are_there() -> None:
    model, x, segments = summariser()
    logits, y = model.logits(x, segments), torch.randint(2, (3, 4))
    there = logits > -math.inf
    expected = F.binary_cross_entropy_with_logits(logits[there], y[there].double())
    torch.testing.assert_close(model.loss(x, segments, y), expected, **CLOSE)
    assert there.sum() == 6
    other = y.clone()
    other[~there] = 1 - y[~there]
    for labels in (other, y.bool(), y.double()):
        assert model.loss(x, segments, labels).equal(model.loss(x, segments, y))


def test_the_most_probable_sentences_are_chosen_and_none_that_is_not_there() -> None:
    model, x, segments = summariser()
    logits = model.logits(x, segments)
    for k in (1, 2, 3, 9):
        chosen = model.predict(x, segments, k)
        assert chosen.sum(1).tolist() == [min(k, most) for most in (3, 2, 1)]
        for row, scores in zip(chosen, logits, strict=True):
            assert scores[row].min() >= torch.where(row, -math.inf, scores).max()


def test_rows_of_sentences_are_those_of_the_text() -> None:
    tokenizer = CharTokenizer("abcd")
    x, segments = sentence_rows(tokenizer, [["ab", "", "cda"], ["d"], ["abc", "dabc"]], 6)
    assert x.equal(rows(tokenizer, ["abcda", "d", "abcda"], 6))
    assert segments.tolist() == [
        [0, 0, 2, 2, 2, -1],
        [0, -1, -1, -1, -1, -1],
        [0, 0, 0, 1, 1, -1],
    ]


def unigrams(made: str, wanted: str) -> float:
    """F of words, by counting."""
    a, b = Counter(made.split()), Counter(wanted.split())
    return 2 * sum(min(a[w], b[w]) for w in a) / max(sum(a.values()) + sum(b.values()), 1)


WORDS = ["red", "green", "blue", "white", "black", "grey"]


def story(seed: int) -> tuple[list[str], str]:
    g = torch.Generator().manual_seed(seed)
    lengths = [2, 5, 3, 1, 4, 6]
    lines = [" ".join(WORDS[i] for i in torch.randint(6, (n,), generator=g)) for n in lengths]
    return lines[:5], lines[5]


@pytest.mark.parametrize("seed", range(5))
def test_an_extract_is_the_best_of_all_that_add_one_sentence(seed: int) -> None:
    """One sentence is the best of all; more are no better than the best of all selections."""
    sentences, reference = story(seed)

    def f(chosen: Any) -> float:
        return unigrams(" ".join(sentences[i] for i in sorted(chosen)), reference)

    expected: list[int] = []
    for k in range(1, 6):
        found = oracle_extract(sentences, reference, k, lambda a, b: rouge_n(a, b, 1))
        rest = [i for i in range(5) if i not in expected]
        best = max(rest, key=lambda i: f([*expected, i]), default=None)
        if len(expected) == k - 1 and best is not None and f([*expected, best]) > f(expected):
            expected = sorted([*expected, best])
        assert found == expected
        every = [c for n in range(k + 1) for c in itertools.combinations(range(5), n)]
        assert f(found) <= max(map(f, every)) + 1e-12
        if k == 1:
            assert f(found) == max(map(f, every))


def test_an_extract_of_several_need_not_be_the_best_there_is() -> None:
    sentences, reference = ["a b c d x", "a b e", "c d f"], "a b c d e f"
    ones = lambda made, wanted: rouge_n(made, wanted, 1)  # noqa: E731
    assert oracle_extract(sentences, reference, 1, ones) == [0]
    assert oracle_extract(sentences, reference, 2, ones) == [0]
    assert ones(["a b e c d f"], [reference]).f == 1  # that of the others
    assert oracle_extract(["春眠不觉晓，", "处处闻啼鸟。"], "闻鸟", 2, rouge_l) == [1]
    assert oracle_extract(sentences, "nothing of it", 3, ones) == []
    assert oracle_extract([], reference, 3, ones) == []


def test_the_lead_is_the_beginning() -> None:
    assert lead(("a", "b", "c")) == ["a"]
    assert lead(["a", "b", "c"], 2) == ["a", "b"]
    assert lead(["a"], 3) == ["a"]


# Copying


def copying() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of a vocabulary of 6, of which PAD and BOS are never written, and sources with repeats."""
    logits = torch.randn(2, 3, 6)
    logits[..., :EOS] = -math.inf
    source = torch.tensor([[2, 4, 2, 5], [3, 3, 0, 0]])
    weights = torch.randn(2, 3, 4).masked_fill((source == PAD)[:, None], -math.inf).softmax(2)
    return logits.log_softmax(2), weights, source, torch.randn(2, 3)


@pytest.mark.equation("eq-bert-copy")
def test_copying_is_a_mixture_that_sums_to_one() -> None:
    log_p, a, source, gate = copying()
    found = copy_log_prob(log_p, a, source, gate)
    torch.testing.assert_close(found.logsumexp(2), torch.zeros(2, 3), **CLOSE)
    for n, t, y in itertools.product(range(2), range(3), range(6)):
        g = gate[n, t].sigmoid()
        copied = sum(float(a[n, t, j]) for j in range(4) if source[n, j] == y)
        p = g * log_p[n, t, y].exp() + (1 - g) * copied
        torch.testing.assert_close(found[n, t, y].exp(), p, **CLOSE)
    assert (found[..., :EOS] == -math.inf).all()


def test_copying_alone_and_writing_alone_are_limits() -> None:
    log_p, a, source, gate = copying()
    never = torch.full_like(gate, 800.0)  # where 1 − p_gen is 0 in double precision
    torch.testing.assert_close(copy_log_prob(log_p, a, source, never), log_p, **CLOSE)
    always = copy_log_prob(log_p, a, source, -never)
    torch.testing.assert_close(always[0, :, 4].exp(), a[0, :, 1], **CLOSE)
    # what cannot be copied still has a probability, of which the logarithm is known
    torch.testing.assert_close(always[0, :, 3], log_p[0, :, 3] - 800, **CLOSE)


def test_gradients_of_copying_are_finite_and_right() -> None:
    log_p, a, source, gate = copying()
    for x in (log_p, a, gate):
        x.requires_grad_()
    copy_log_prob(log_p, a, source, gate).logsumexp(2).sum().backward()
    assert all(bool(x.grad.isfinite().all()) for x in (log_p, a, gate) if x.grad is not None)
    inputs = (log_p.detach()[..., EOS:].requires_grad_(), a, gate)

    def some(written: Tensor, a: Tensor, gate: Tensor) -> Tensor:
        whole = F.pad(written, (EOS, 0), value=-math.inf)
        return copy_log_prob(whole, a, source, gate)[..., EOS:]

    assert torch.autograd.gradcheck(some, inputs)


# Words

GPT: dict[str, Any] = {"vocab_size": 6, "context": 8, "layers": 1, "heads": 1, "width": 8}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"vocab_size": 7}, "vocab_size=7.*another vocabulary, of 6 tokens"),
        ({"encoder": lambda: bert(pad=None)}, "pad=None"),
        ({"encoder": lambda: bert(gt.OriginalBERT, ends=(2, 3))}, r"ends \(2, 3\)"),
        ({"encoder": lambda: gt.GPT(**GPT)}, "GPT has no features of tokens"),
        (
            {"encoder": lambda: gt.Classifier(shape=(1, 8, 8), classes=2)},
            "Classifier has no features",
        ),
        ({"encoder": {"class": "os"}}, "whose class is one of gentext"),
        ({"rate": 1.5}, "rate must be at least 0 and at most 1"),
        ({"heads": 3}, "width=8 and heads=3"),
        ({"layers": 0}, "layers=0"),
    ],
)
def test_what_cannot_be_built_is_refused(given: dict[str, Any], message: str) -> None:
    given = {k: v() if callable(v) else v for k, v in given.items()}
    with pytest.raises(ValueError, match=message):
        small(**given)


def test_sources_that_the_encoder_cannot_read_are_refused() -> None:
    model = small(encoder=bert(context=5))
    x, y = batch(length=6), batch(length=6)
    model.check(batch(length=5), y)  # targets may be longer
    with pytest.raises(ValueError, match=r"3 rows of 6.*1 to 5"):
        model.check(x, y)
    with pytest.raises(ValueError, match="source has a row that is empty"):
        model.check(x * 0, y)
    with pytest.raises(ValueError, match=r"target tokens from 10 to 15"):
        model.check(batch(length=5), y + 10)


def test_data_that_do_not_fit_are_refused_before_training() -> None:
    model, x, segments = summariser()
    y = torch.zeros(3, 4, dtype=torch.long)
    model.check(x, segments, y)
    config = TrainConfig(steps=1, batch_size=3)
    for given, message in [
        ((x + 11, segments, y), "this vocabulary is 0 to"),
        ((x, segments[:, :7], y), r"segments.*\(3, 7\)"),
        ((x, segments + 2, y), "segments from 1 to 4.*0 to 3"),
        ((x, segments - 1, y), "segments from -2"),
        ((x, segments.double(), y), "float64.*integers"),
        ((x, segments, y[:, :3]), r"\(3, 3\).*\(3, 4\)"),
        ((x, segments, y + 2), "table of labels"),
    ]:
        with pytest.raises(ValueError, match=message):
            fit(model, given, config, progress=False)
        with pytest.raises(ValueError, match=message):
            model.loss(*given)
    with pytest.raises(ValueError, match="k=0"):
        model.predict(x, segments, 0)
    with pytest.raises(ValueError, match="sentences=0"):
        Extractive(encoder=bert(), sentences=0)


def test_texts_are_lists_of_sentences_and_tokens_those_of_the_vocabulary() -> None:
    for call in (
        lambda: lead("a text. of two"),  # type: ignore[arg-type]
        lambda: oracle_extract("a text. of two", "a", 1, rouge_l),
        lambda: sentence_rows(CharTokenizer("abc"), ["a text. of two"], 4),
    ):
        with pytest.raises(ValueError, match=r"'a text\. of two'; give the list"):
            call()
    log_p, a, source, gate = copying()
    with pytest.raises(ValueError, match="source tokens from 4 to 9"):
        copy_log_prob(log_p, a, source + 4, gate)
