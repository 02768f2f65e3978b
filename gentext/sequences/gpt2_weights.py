"""GPT-2 as others publish it: its tensors under the names and in the shapes of ``GPT``.

Source: Radford et al., 2019.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from torch import Tensor

from gentext.core.signatures import keep_contract
from gentext.sequences.foreign_weights import (
    check_config,
    count_layers,
    load_weights,
    matrix_sizes,
    read_tensors,
)
from gentext.sequences.gpt import GPT

THEIRS = {  # our names of the parts of the model and of a block, and those of Hugging Face
    "tokens": "wte",
    "positions": "wpe",
    "norm": "ln_f",
    "norm1": "ln_1",
    "attention.qkv": "attn.c_attn",
    "attention.out": "attn.c_proj",
    "norm2": "ln_2",
    "feed_forward.up": "mlp.c_fc",
    "feed_forward.down": "mlp.c_proj",
}
EXPECTED = {
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True,
}


def load_gpt2(
    source: str | os.PathLike[str] | Mapping[str, Tensor],
    *,
    heads: int | None = None,
    dropout: float = 0.0,
) -> GPT:
    """The GPT-2 of a Hugging Face checkpoint, for the same logits.

    Arguments:
        source: a folder with config.json and model.safetensors (whole or in parts), a safetensors
            file, or the tensors by their names (``state_dict()``).
        heads: heads of each layer; by default those that config.json names or else, as in all of
            OpenAI's sizes, width/64.

    Raises ValueError where ``source`` is no GPT-2. The last token, ``<|endoftext|>``, is ``bos``.
    """
    named, config = read_tensors(source)
    check_config(config, EXPECTED, "GPT-2")
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in named.items()}
    vocab_size, width = matrix_sizes(tensors, "wte.weight", "GPT-2")
    model = GPT(
        vocab_size=vocab_size,
        context=matrix_sizes(tensors, "wpe.weight", "GPT-2")[0],
        layers=count_layers(tensors, "h."),
        heads=config.get("n_head", max(1, width // 64)) if heads is None else heads,
        width=width,
        dropout=dropout,
        bos=vocab_size - 1,
    )
    matrices = [name for name, tensor in model.blocks.state_dict().items() if tensor.ndim == 2]
    transposed = [f"blocks.{name}" for name in matrices]
    load_weights(model, tensors, _theirs, "GPT-2", transposed=transposed)
    return model.eval()


def _theirs(name: str) -> list[str]:
    """The tensor of Hugging Face that is ours called ``name``."""
    path, _, kind = name.rpartition(".")
    if not path.startswith("blocks."):
        return [f"{THEIRS[path]}.{kind}"]
    _, layer, part = path.split(".", 2)
    return [f"h.{layer}.{THEIRS[part]}.{kind}"]


keep_contract(globals())
