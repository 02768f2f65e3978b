"""BERT as others publish it: its tensors under the names of ``OriginalBERT``.

English, multilingual and Chinese checkpoints differ in their vocabulary alone.

Source: Devlin et al., NAACL 2019.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from gentext.core.signatures import keep_contract
from gentext.sequences.foreign_weights import (
    check_config,
    count_layers,
    load_weights,
    matrix_sizes,
    read_tensors,
)
from gentext.sequences.original_bert import EPS, OriginalBERT
from gentext.tokens.foreign_tokenizer import has_tokenizer, load_tokenizer
from gentext.tokens.wordpiece import WordPieceTokenizer

EMBEDDINGS, HEAD = "embeddings", "cls.predictions"
WHOLE = {  # our names of the parts of the model, and those of Hugging Face
    "tokens": f"{EMBEDDINGS}.word_embeddings",
    "positions": f"{EMBEDDINGS}.position_embeddings",
    "segments": f"{EMBEDDINGS}.token_type_embeddings",
    "norm": f"{EMBEDDINGS}.LayerNorm",
    "pooler": "pooler.dense",
    "transform": f"{HEAD}.transform.dense",
    "transform_norm": f"{HEAD}.transform.LayerNorm",
    "next_sentence": "cls.seq_relationship",
}
BLOCK = {  # of the parts of a block; queries, keys and values stand apart there
    "attention.qkv": [f"attention.self.{part}" for part in ("query", "key", "value")],
    "attention.out": ["attention.output.dense"],
    "norm1": ["attention.output.LayerNorm"],
    "feed_forward.up": ["intermediate.dense"],
    "feed_forward.down": ["output.dense"],
    "norm2": ["output.LayerNorm"],
}
OLD = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
EXPECTED = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "layer_norm_eps": EPS,
    "position_embedding_type": "absolute",
    "tie_word_embeddings": True,
    "is_decoder": False,
}
SPECIAL: dict[str, Any] = {"pad": 0, "ends": (101, 102), "mask": 103}  # in Google's vocabularies


def load_bert(
    source: str | os.PathLike[str] | Mapping[str, Tensor],
    *,
    heads: int | None = None,
    dropout: float = 0.0,
    tokenizer: WordPieceTokenizer | None = None,
) -> OriginalBERT:
    """The BERT of a Hugging Face checkpoint, for the same logits.

    Arguments:
        source: a folder with config.json and model.safetensors (whole or in parts), a safetensors
            file, or the tensors by their names (``state_dict()``).
        heads: heads of each layer; by default those that config.json names or else, as in all of
            Google's sizes, width/64.
        tokenizer: what knows the numbers of [PAD], [CLS], [SEP] and [MASK]; by default that of the
            folder, or else those numbers are Google's.

    Raises ValueError where ``source`` is no BERT with its pooler and both heads.
    """
    named, config = read_tensors(source)
    check_config(config, EXPECTED, "BERT")
    tensors = {_modern(name): tensor for name, tensor in named.items()}
    word, place = (f"{WHOLE[part]}.weight" for part in ("tokens", "positions"))
    vocab_size, width = matrix_sizes(tensors, word, "BERT")
    model = OriginalBERT(
        vocab_size=vocab_size,
        context=matrix_sizes(tensors, place, "BERT")[0],
        layers=count_layers(tensors, "encoder.layer."),
        heads=config.get("num_attention_heads", max(1, width // 64)) if heads is None else heads,
        width=width,
        dropout=dropout,
        **_special_tokens(source, tokenizer, vocab_size),
    )
    load_weights(model, tensors, _theirs, "BERT")
    return model.eval()


def _special_tokens(source: Any, tokenizer: Any, vocab_size: int) -> dict[str, Any]:
    """The numbers of the special tokens, as arguments of the model."""
    if tokenizer is None and not isinstance(source, Mapping) and has_tokenizer(source):
        tokenizer = load_tokenizer(source)
    if tokenizer is None:
        found, size = SPECIAL, SPECIAL["mask"] + 1
    else:
        ends = (tokenizer.bos, tokenizer.eos)
        found, size = {"pad": tokenizer.pad, "ends": ends, "mask": tokenizer.mask}, tokenizer.size
    if size > vocab_size:
        raise ValueError(
            f"the checkpoint has {vocab_size} tokens, but its tokenizer {size} or more: give the "
            "tokenizer that it was trained with"
        )
    return found


def _modern(name: str) -> str:
    """The name that a tensor has today, within the whole model."""
    name = name.removeprefix("bert.")
    stem, dot, last = name.rpartition("LayerNorm.")
    return stem + OLD.get(dot + last, dot + last)


def _theirs(name: str) -> list[str]:
    """The tensors of Hugging Face that make up ours called ``name``."""
    path, _, kind = name.rpartition(".")
    if not path:
        return [f"{HEAD}.{name}"]
    if not path.startswith("blocks."):
        return [f"{WHOLE[path]}.{kind}"]
    _, layer, part = path.split(".", 2)
    return [f"encoder.layer.{layer}.{their}.{kind}" for their in BLOCK[part]]


keep_contract(globals())
