"""BERT as published against the one of Hugging Face, with the same weights."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentext import checkpoint
from gentext.core import Encodes, PseudoDensity, Samples
from gentext.sequences.bert_weights import load_bert
from gentext.sequences.original_bert import OriginalBERT

pytestmark = pytest.mark.usefixtures("float64")

PAD, CLS, SEP, MASK = 0, 2, 3, 4
SIZES = {"vocab_size": 30, "context": 12, "layers": 2, "heads": 2, "width": 16}


def small(**arguments) -> OriginalBERT:
    """With weights of which none is at the zero or one that it begins with."""
    torch.manual_seed(0)
    model = OriginalBERT(**{**SIZES, "mask": MASK, "ends": (CLS, SEP), **arguments}).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def pairs() -> tuple[Tensor, Tensor]:
    """Rows of two texts, the second row filled up."""
    tokens = torch.randint(5, 30, (3, 12))
    tokens[:, 0], tokens[:, [5, 11]] = CLS, SEP
    segments = (torch.arange(12) > 5).long().repeat(3, 1)
    tokens[1, 9:], segments[1, 9:] = PAD, 0
    return tokens, segments


def reference(tokens: Tensor, segments: Tensor) -> tuple[OriginalBERT, nn.Module, object]:
    """Ours and theirs with the same random weights, and what theirs gives."""
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=30,
        max_position_embeddings=12,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    theirs = transformers.BertForPreTraining(config).double().eval()
    for name, parameter in theirs.named_parameters():
        nn.init.normal_(parameter, mean=float("LayerNorm.weight" in name), std=0.3)
    found = theirs(tokens, attention_mask=(tokens != PAD).long(), token_type_ids=segments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gentext.sequences.bert_weights.SPECIAL", {"pad": PAD, "mask": MASK})
        return load_bert(theirs.state_dict(), heads=2), theirs, found


def test_logits_are_those_of_hugging_face() -> None:
    """Of tokens and of the next sentence, and the features; with two segments and with padding."""
    tokens, segments = pairs()
    ours, theirs, found = reference(tokens, segments)
    close = {"atol": 1e-10, "rtol": 0}
    assert found.prediction_logits.std(1).mean() > 0.1  # each place has its own
    torch.testing.assert_close(ours.logits(tokens, segments), found.prediction_logits, **close)
    follows = ours.next_sentence_logits(tokens, segments)
    torch.testing.assert_close(follows, found.seq_relationship_logits, **close)
    body = theirs.bert(tokens, (tokens != PAD).long(), segments)
    torch.testing.assert_close(ours.encode(tokens, segments), body.last_hidden_state, **close)
    torch.testing.assert_close(ours.pooled(tokens, segments), body.pooler_output, **close)
    alone = theirs(tokens, (tokens != PAD).long()).prediction_logits
    torch.testing.assert_close(ours.logits(tokens), alone, **close)


@pytest.mark.equation("eq-bert-loss")
def test_the_loss_is_that_of_hugging_face(monkeypatch) -> None:
    """For the same chosen places; there a label of 0 says that b follows a."""
    tokens, segments = pairs()
    ours, theirs, _ = reference(tokens, segments)
    corrupted, M = tokens.clone(), torch.zeros_like(tokens, dtype=torch.bool)
    M[0, [1, 7]] = M[2, 3] = True
    corrupted[M] = MASK
    monkeypatch.setattr("gentext.sequences.original_bert.mlm_mask", lambda *_, **__: (corrupted, M))
    follows = torch.tensor([1, 0, 0])
    options = {
        "attention_mask": (tokens != PAD).long(),
        "token_type_ids": segments,
        "labels": tokens.masked_fill(~M, -100),
        "next_sentence_label": 1 - follows,
    }
    expected = theirs(corrupted, **options).loss
    torch.testing.assert_close(ours.loss(tokens, segments, follows), expected, atol=1e-10, rtol=0)
    words = F.cross_entropy(ours.logits(corrupted, segments)[M], tokens[M])
    torch.testing.assert_close(ours.loss(tokens, segments), words, atol=1e-12, rtol=0)


def test_the_base_size_has_as_many_parameters_as_in_the_literature() -> None:
    """109,482,240 are those of embeddings, blocks and pooler, without the heads of both tasks."""
    with torch.device("meta"):
        model = OriginalBERT(vocab_size=30_522, mask=103, ends=(101, 102))
    heads = (model.transform, model.transform_norm, model.next_sentence)
    aside = sum(p.numel() for head in heads for p in head.parameters()) + model.bias.numel()
    assert sum(p.numel() for p in model.parameters()) - aside == 109_482_240
    norms = [part.eps for part in model.modules() if isinstance(part, nn.LayerNorm)]
    assert norms == [1e-12] * 26


def test_ends_and_padding_are_never_asked_for(monkeypatch) -> None:
    tokens, _ = pairs()
    model, seen = small(), []

    def observed(logits: Tensor, targets: Tensor, M: Tensor) -> Tensor:
        seen.append(M)
        return logits.sum() * 0

    monkeypatch.setattr("gentext.sequences.original_bert.mlm_loss", observed)
    model.loss(tokens.repeat(300, 1))
    share = seen[0].view(300, 3, 12).double().mean(0)
    special = torch.isin(tokens, torch.tensor([PAD, CLS, SEP]))
    assert (share[special] == 0).all()
    assert float(share[~special].mean()) == pytest.approx(0.15, abs=0.03)


def test_pseudo_log_prob_is_of_the_text_between_the_ends() -> None:
    tokens, _ = pairs()
    model = small().eval()
    expected = []
    for row in tokens:
        total = 0.0
        for i, token in enumerate(row.tolist()):
            if token in (PAD, CLS, SEP):
                continue
            hidden = row.clone()
            hidden[i] = MASK
            total += float(model.logits(hidden[None])[0, i].log_softmax(-1)[token].detach())
        expected.append(total)
    torch.testing.assert_close(model.pseudo_log_prob(tokens).detach(), torch.tensor(expected))
    assert model.fill(tokens, [1, 2]).shape == (3, 2, 30)


def test_it_can_what_a_bert_can_and_comes_back_from_a_checkpoint(tmp_path) -> None:
    model = small(dropout=0.0)
    assert isinstance(model, Encodes)
    assert isinstance(model, PseudoDensity)
    assert not isinstance(model, Samples)
    again = checkpoint.load(checkpoint.save(tmp_path / "model.safetensors", model))
    assert again.ends == (CLS, SEP)
    tokens, segments = pairs()
    twin = again.double().eval().next_sentence_logits(tokens, segments)
    torch.testing.assert_close(twin, model.eval().next_sentence_logits(tokens, segments))


def test_dropout_is_of_embeddings_sums_and_attention_alone() -> None:
    model = small(dropout=0.5).train()
    for block in model.blocks:
        block.dropout.p, block.attention.dropout = 0.0, 0.0
    model.dropout.p = 0.0
    tokens, segments = pairs()
    assert model.logits(tokens, segments).equal(model.logits(tokens, segments))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, t, s: m.check(t, s[:, :4]), r"segments of shape \(3, 4\).* 0 or 1"),
        (lambda m, t, s: m.logits(t, s + 1), "segments from 1 to 2"),
        (lambda m, t, s: m.check(t, s, torch.tensor([0, 1, 2])), "label 2"),
        (lambda m, t, s: m.check(t, s, torch.tensor([0, 1])), r"labels of shape \(2,\)"),
        (lambda m, t, s: small(ends=(2, 30)), r"ends=\(2, 30\).* 0 to 29"),
    ],
)
def test_what_does_not_fit_is_refused(call, message: str) -> None:
    tokens, segments = pairs()
    with pytest.raises(ValueError, match=message):
        call(small(), tokens, segments)


def test_uniform_logits_cost_log_v_and_log_two() -> None:
    model = small()
    for head in (model.transform_norm, model.next_sentence):
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    nn.init.zeros_(model.bias)
    tokens, segments = pairs()
    value = model.loss(tokens, segments, torch.tensor([0, 1, 1]))
    assert float(value.detach()) == pytest.approx(math.log(30) + math.log(2))
