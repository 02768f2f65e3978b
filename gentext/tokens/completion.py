"""Texts completed by a model, from its prompt to its end."""

from __future__ import annotations

from typing import Any

import torch

from gentext.core.signatures import keep_contract
from gentext.tokens.tokenizer import Tokenizer


def check_fits(model: Any, tokenizer: Tokenizer) -> None:
    """Raise ValueError unless the model was built for a vocabulary of this size."""
    if tokenizer.size != model.vocab_size:
        raise ValueError(
            f"the tokenizer knows {tokenizer.size} tokens, but the model {model.vocab_size}: "
            "use the one that its checkpoint carries (gentext.zoo.tokenizer_of(path))"
        )


def complete(
    model: Any,
    tokenizer: Tokenizer,
    prompt: str = "",
    n: int = 200,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
    **how: Any,
) -> str:
    """``prompt`` and up to ``n`` more tokens by ``model``, or as many as it takes to end the text.

    What else there is of options goes to ``model.generate``, such as ``steps`` of a masked
    diffusion.

    Raises ValueError for characters that the tokenizer does not know, for a prompt longer than the
    context, and where tokenizer and model do not belong together.
    """
    check_fits(model, tokenizer)
    device = next(model.parameters()).device
    tokens = torch.tensor([tokenizer.encode(prompt)], dtype=torch.long, device=device)
    options: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    stop = tokenizer.eos
    written = model.generate(tokens, n, stop=stop, generator=generator, **options, **how)
    return tokenizer.decode(written[0].tolist())


keep_contract(globals())
