"""Tokens a second of `GPT.generate` beside GPT-2 of Hugging Face, and beside itself uncached.

Both have random weights of 6 layers of width 192 and draw from the whole distribution. `linear
maps` takes the products of the layers alone: no way of generating with them is faster than that.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import alternate, table
from gentext.sequences.gpt import GPT

SHAPE = {"vocab_size": 80, "context": 512, "layers": 6, "heads": 6, "width": 192}
CASES = ((1, 64), (16, 64))  # rows and tokens of each
LONG, ROUNDS = 256, 9


def hugging_face() -> Any:
    """The peer: GPT-2 of the same shape."""
    import transformers

    transformers.logging.set_verbosity_error()
    config = transformers.GPT2Config(
        vocab_size=SHAPE["vocab_size"],
        n_positions=SHAPE["context"],
        n_embd=SHAPE["width"],
        n_layer=SHAPE["layers"],
        n_head=SHAPE["heads"],
        bos_token_id=1,
        eos_token_id=None,
    )
    return transformers.GPT2LMHeadModel(config).eval()


def their_text(model: Any, rows: int, tokens: int) -> Tensor:
    """``tokens`` more tokens in each row after the first, by their ``generate``."""
    first = torch.ones(rows, 1, dtype=torch.long)
    return model.generate(
        first,
        attention_mask=torch.ones_like(first),
        max_new_tokens=tokens,
        do_sample=True,
        top_k=0,
        use_cache=True,
        pad_token_id=0,
    )


def our_text(model: GPT, rows: int, tokens: int, *, cache: bool = True) -> Tensor:
    """As many by ours, after ``bos``."""
    return model.generate(torch.empty(rows, 0, dtype=torch.long), tokens, cache=cache)


def products(model: GPT, rows: int, tokens: int) -> Callable[[], object]:
    """The linear maps of the layers, once for each token."""
    maps = [m for block in model.blocks for m in block.modules() if isinstance(m, nn.Linear)]
    pairs = [(m, torch.randn(rows, m.in_features)) for m in maps]

    @torch.inference_mode()
    def run() -> None:
        for _ in range(tokens):
            for linear, x in pairs:
                linear(x)

    return run


def show(contenders: dict[str, Callable[[], object]], baseline: str, tokens: int) -> None:
    """Print the times and the tokens a second."""
    seconds = alternate(contenders, ROUNDS)
    print(table(seconds, baseline))
    for name, values in seconds.items():
        best, middle = tokens / min(values), tokens / statistics.median(values)
        print(f"{name:24}{middle:10,.0f} tokens/s, at best {best:,.0f}")


def main() -> None:
    """Print the tables."""
    torch.manual_seed(0)
    model, peer = GPT(**SHAPE).eval(), hugging_face()
    for rows, tokens in CASES:
        print(f"{rows} x {tokens} tokens", flush=True)
        contenders: dict[str, Callable[[], object]] = {
            "gentext": lambda rows=rows, tokens=tokens: our_text(model, rows, tokens),  # type: ignore[misc]
            "Hugging Face": lambda rows=rows, tokens=tokens: their_text(peer, rows, tokens),  # type: ignore[misc]
            "linear maps": products(model, rows, tokens),
        }
        show(contenders, "gentext", rows * tokens)
    print(f"1 x {LONG} tokens", flush=True)
    both: dict[str, Callable[[], object]] = {
        "cached": lambda: our_text(model, 1, LONG),
        "uncached": lambda: our_text(model, 1, LONG, cache=False),
    }
    show(both, "cached", LONG)


if __name__ == "__main__":
    main()
