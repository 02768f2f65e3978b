"""Weights of BERT from the files and under the names in which others publish them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gentext.sequences.bert_weights import load_bert
from gentext.sequences.original_bert import OriginalBERT
from gentext.tokens.wordpiece import WordPieceTokenizer

WORDS = ["[UNK]", "[MASK]", "[PAD]", "[SEP]", "[CLS]", *"abcdefghijklmnopqrstu"]


@pytest.fixture(scope="module")
def theirs() -> torch.nn.Module:
    """A BERT of Hugging Face with 130 tokens, heads of size 4, and random weights."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=130,
        max_position_embeddings=9,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    return transformers.BertForPreTraining(config).eval()


def expected(theirs: torch.nn.Module, tokens: Tensor) -> Tensor:
    found: Tensor = theirs(tokens, attention_mask=(tokens != 0).long()).prediction_logits
    return found


def old_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As the first checkpoints have them, with what they have besides."""
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in state.items()
    }
    return {**renamed, "bert.embeddings.position_ids": torch.arange(9)[None]}


@pytest.mark.parametrize("shards", ["5GB", "6KB"])
def test_folders_files_and_mappings_give_the_logits_of_hugging_face(
    theirs: torch.nn.Module, tmp_path: Path, shards: str
) -> None:
    theirs.save_pretrained(tmp_path, max_shard_size=shards)
    whole = (tmp_path / "model.safetensors").is_file()
    assert whole == (shards == "5GB")
    tokens = torch.randint(130, (2, 9))
    close = {"atol": 2e-5, "rtol": 0}
    model = load_bert(tmp_path)
    assert model.blocks[0].attention.heads == 2  # by config.json
    torch.testing.assert_close(model.logits(tokens), expected(theirs, tokens), **close)
    sources = [theirs.state_dict(), old_names(theirs.state_dict())]
    for source in [*sources, tmp_path / "model.safetensors"][: 3 if whole else 0]:
        model = load_bert(source, heads=2)
        torch.testing.assert_close(model.logits(tokens), expected(theirs, tokens), **close)
        assert (model.training, model.pad, model.mask, model.ends) == (False, 0, 103, (101, 102))


def test_special_tokens_are_those_of_the_tokenizer(theirs: torch.nn.Module, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS), "utf-8")
    tokenizer = WordPieceTokenizer.from_words(WORDS)
    for model in (
        load_bert(tmp_path),
        load_bert(theirs.state_dict(), heads=2, tokenizer=tokenizer),
    ):
        assert (model.pad, model.mask, model.ends) == (2, 1, (4, 3))


@pytest.mark.parametrize(
    ("vocab_size", "name"), [(30_522, "English"), (119_547, "multilingual"), (21_128, "Chinese")]
)
def test_published_checkpoints_have_the_shapes_of_the_base_size(vocab_size: int, name: str) -> None:
    """Tensors of the shapes and names of BERT base, without their numbers."""
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        config = transformers.BertConfig(vocab_size=vocab_size)
        state = transformers.BertForPreTraining(config).state_dict()
        model = load_bert(state)
    assert len(model.blocks) == 12
    assert {block.attention.heads for block in model.blocks} == {12}
    tied = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    theirs = sum(tensor.numel() for name, tensor in state.items() if name not in tied)
    assert sum(p.numel() for p in model.parameters()) == theirs
    assert isinstance(model, OriginalBERT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {"weight": torch.zeros(2)}, "no BERT: it has no tensor 'embeddings.word_emb"),
        (
            lambda s: {n: t for n, t in s.items() if "layer.0.output.dense.bias" not in n},
            r"no tensor 'encoder.layer.0.output.dense.bias' among its \d+",
        ),
        (
            lambda s: {n: t for n, t in s.items() if "layer.0." not in n},
            "no tensor 'encoder.layer.0",
        ),
        (lambda s: {n: t for n, t in s.items() if "pooler" not in n}, "no tensor 'pooler.*heads"),
        (
            lambda s: {**s, "bert.encoder.layer.1.attention.self.key.weight": torch.zeros(8, 4)},
            r"'encoder.layer.1.attention.self.key.weight' has the shape \(8, 4\).*\(8, 8\)",
        ),
        (
            lambda s: {**s, "bert.embeddings.token_type_embeddings.weight": torch.zeros(1, 8)},
            r"'embeddings.token_type_embeddings.weight' has the shape \(1, 8\).*\(2, 8\)",
        ),
        (
            lambda s: {**s, "bert.embeddings.word_embeddings.weight": torch.zeros(130)},
            r"shape \(130,\), and must be a matrix",
        ),
        (
            lambda s: {**s, "bert.embeddings.word_embeddings.weight": torch.zeros(40, 8)},
            "40 tokens, but its tokenizer 104",
        ),
        (lambda s: {**s, "cls.predictions.bias": torch.zeros(130).char()}, "int8.*not quantised"),
    ],
)
def test_what_is_no_bert_is_refused(theirs: torch.nn.Module, change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_bert(change(theirs.state_dict()), heads=2)


@pytest.mark.parametrize(
    ("field", "value"),
    [("model_type", "roberta"), ("hidden_act", "relu"), ("position_embedding_type", "relative")],
)
def test_a_model_of_another_form_is_refused(
    theirs: torch.nn.Module, tmp_path: Path, field: str, value: str
) -> None:
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), field: value}), "utf-8")
    with pytest.raises(ValueError, match=rf"config.json has {field}='{value}', and only"):
        load_bert(tmp_path)
