"""A training step of `GPT` beside that of a plain one in PyTorch's modules, and Hugging Face's.

All have 6 layers of width 192, the same weights at the start and the same maths (Hugging Face's
without its dropout), and take batches of 8 x 256 tokens with a fused AdamW. `products, attention`
are the matrix products and the attention of a step alone, forward and backward: what no
implementation of these in PyTorch can save.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import alternate, table
from benchmarks._plain_gpt import PlainGPT
from gentext.sequences.gpt import GPT

SHAPE = {"vocab_size": 80, "context": 256, "layers": 6, "heads": 6, "width": 192}
BATCH, ROUNDS, STEPS = 8, 15, 30


def adamw(parameters: Any) -> torch.optim.AdamW:
    """The same optimiser for all."""
    return torch.optim.AdamW(parameters, lr=1e-3, fused=True)


def trainer(model: nn.Module, loss: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A step on a batch of tokens, which gives the loss before it."""
    optimizer = adamw(model.parameters())

    def step(tokens: Tensor) -> Tensor:
        optimizer.zero_grad()
        value = loss(tokens)
        value.backward()
        optimizer.step()
        return value.detach()

    return step


def shifted(tokens: Tensor, bos: int) -> Tensor:
    """What a network reads in order to predict ``tokens``."""
    return F.pad(tokens[:, :-1], (1, 0), value=bos)


def hugging_face() -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """GPT-2 of the same shape, and its loss."""
    import transformers

    transformers.logging.set_verbosity_error()
    config = transformers.GPT2Config(
        vocab_size=SHAPE["vocab_size"],
        n_positions=SHAPE["context"],
        n_embd=SHAPE["width"],
        n_layer=SHAPE["layers"],
        n_head=SHAPE["heads"],
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
    )
    model = transformers.GPT2LMHeadModel(config)

    def loss(tokens: Tensor) -> Tensor:
        logits = model(shifted(tokens, 1)).logits
        return F.cross_entropy(logits.flatten(0, 1), tokens.flatten())

    return model, loss


def products() -> Callable[[], None]:
    """The matrix products and the attention of one step, forward and backward."""
    width, heads, n, t = SHAPE["width"], SHAPE["heads"], BATCH, SHAPE["context"]
    sizes = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)]
    maps = [(torch.randn(n * t, i), torch.randn(o, i), torch.randn(n * t, o)) for i, o in sizes]
    q, k, v = (
        torch.randn(n, t, heads, width // heads).transpose(1, 2).requires_grad_() for _ in range(3)
    )
    slope = torch.randn(n, t, heads, width // heads).transpose(1, 2)

    def run() -> None:
        for _ in range(SHAPE["layers"]):
            for x, weight, gradient in maps:
                x @ weight.T, gradient @ weight, gradient.T @ x
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            torch.autograd.grad(mixed, (q, k, v), slope)

    return run


def batches(steps: int) -> list[Tensor]:
    """Rows that can be learnt a little: each token is the last one or the one after, mostly."""
    generator = torch.Generator().manual_seed(1)
    shape = (steps, BATCH, SHAPE["context"])
    moves = torch.randint(3, shape, generator=generator)
    return list(((moves - 1).cumsum(-1) + 40) % SHAPE["vocab_size"])


def main() -> None:
    """Print the losses and the tables."""
    torch.manual_seed(0)
    model = GPT(**SHAPE)
    plain, (theirs, their_loss) = PlainGPT(model), hugging_face()
    steps = {
        "gentext": trainer(model, model.loss),
        "plain": trainer(plain, lambda tokens: plain(shifted(tokens, model.bos), tokens)),
        "Hugging Face": trainer(theirs, their_loss),
    }
    size = sum(p.numel() for p in model.parameters())
    print(f"{size:,} parameters, {torch.get_num_threads()} threads")
    stream = batches(STEPS)
    for name in ("gentext", "plain"):
        losses = [float(steps[name](tokens)) for tokens in stream]
        print(f"{name:24}loss {losses[0]:.4f} at first, {losses[-1]:.4f} after {STEPS - 1} steps")
    contenders: dict[str, Callable[[], object]] = {
        name: (lambda step=step: step(stream[0]))  # type: ignore[misc]
        for name, step in steps.items()
    }
    contenders["products, attention"] = products()
    for name, clock in {"wall clock": time.perf_counter, "CPU time": time.process_time}.items():
        seconds = alternate(contenders, ROUNDS, clock)
        print(f"{name}\n{table(seconds, 'plain')}", flush=True)
        best = min(seconds["gentext"]) / min(seconds["plain"])
        print(f"least time of gentext by least time of plain: {best:.3f}", flush=True)


if __name__ == "__main__":
    main()
