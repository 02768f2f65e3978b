"""GPT-2 as others publish it: its tensors under the names and in the shapes of ``GPT``.

Source: Radford et al., 2019.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from torch import Tensor

from gentext.core.signatures import keep_contract
from gentext.sequences.gpt import GPT

THEIRS = {  # our names of the parts of a block, and those of Hugging Face
    "norm1": "ln_1",
    "attention.qkv": "attn.c_attn",
    "attention.out": "attn.c_proj",
    "norm2": "ln_2",
    "feed_forward.up": "mlp.c_fc",
    "feed_forward.down": "mlp.c_proj",
}


def load_gpt2(
    source: str | os.PathLike[str] | Mapping[str, Tensor],
    *,
    heads: int | None = None,
    dropout: float = 0.0,
) -> GPT:
    """The GPT-2 of a Hugging Face checkpoint, for the same logits.

    Arguments:
        source: a safetensors file, or the tensors by their names (``state_dict()``).
        heads: heads of each layer; by default, as in all of OpenAI's sizes, width/64.

    Raises ValueError where ``source`` is no GPT-2. The last token, ``<|endoftext|>``, is ``bos``.
    """
    tensors = _read_tensors(source)
    try:
        vocab_size, width = tensors["wte.weight"].shape
        context, layers = len(tensors["wpe.weight"]), 0
        while f"h.{layers}.ln_1.weight" in tensors:
            layers += 1
        model = GPT(
            vocab_size=vocab_size,
            context=context,
            layers=layers,
            heads=heads or max(1, width // 64),
            width=width,
            dropout=dropout,
            bos=vocab_size - 1,
        )
        theirs = _renamed(tensors, layers)
    except KeyError as missing:
        raise ValueError(f"this is no GPT-2: it has no tensor {missing}") from None
    model.load_state_dict(theirs)
    return model.eval()


def _read_tensors(source: str | os.PathLike[str] | Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not isinstance(source, Mapping):
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            source = load_file(os.path.expanduser(source))
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{source} cannot be read as a safetensors file ({error})") from error
    return {name.removeprefix("transformer."): tensor for name, tensor in source.items()}


def _renamed(tensors: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """The tensors under our names; theirs keep the matrices of linear maps transposed."""
    ours = {"tokens.weight": tensors["wte.weight"], "positions.weight": tensors["wpe.weight"]}
    for kind in ("weight", "bias"):
        ours[f"norm.{kind}"] = tensors[f"ln_f.{kind}"]
        for layer in range(layers):
            for name, their in THEIRS.items():
                tensor = tensors[f"h.{layer}.{their}.{kind}"]
                ours[f"blocks.{layer}.{name}.{kind}"] = tensor.T if tensor.ndim == 2 else tensor
    return ours


keep_contract(globals())
