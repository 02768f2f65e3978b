"""Train small GPTs of several sizes on several amounts of text, to fit a scaling law to.

``python experiments/scaling_runs.py`` prints one row for each run: layers, width, characters of
training, and the loss on the validation text in nats a character. Every run has its own warm-up
and cosine; beyond one million characters the text is read again.
"""

from __future__ import annotations

import torch

import gentext as gt
from gentext.sequences.gpt import GPT
from gentext.tokens.tokenizer import CharTokenizer

CONTEXT, BATCH = 64, 8
SHAPES = ((1, 16), (2, 32), (2, 64), (3, 96), (4, 128))
TOKENS = (225_280, 450_560, 901_120, 1_802_240, 3_604_480)
DRAWS = 2000  # windows of the validation text


def run(layers: int, width: int, tokens: int, *, seed: int = 0) -> float:
    """The loss in nats a character after ``tokens`` characters of Shakespeare."""
    corpus = gt.text.load("shakespeare")
    tokenizer = CharTokenizer.fit(corpus.train)
    data = gt.text.windows(corpus, tokenizer, CONTEXT, stride=CONTEXT)
    torch.manual_seed(seed)
    model = GPT(
        vocab_size=tokenizer.size,
        context=CONTEXT,
        layers=layers,
        heads=max(1, width // 32),
        width=width,
    )
    steps = tokens // (CONTEXT * BATCH)
    config = gt.TrainConfig(
        steps=steps,
        batch_size=BATCH,
        lr=4e-3 * (32 / width) ** 0.5,
        weight_decay=0.01,
        clip=1.0,
        schedule="cosine",
        warmup=steps // 10,
        seed=seed,
    )
    gt.fit(model, data, config, progress=False)
    model.eval()
    with torch.no_grad():
        rows = data.validation[0][:DRAWS].split(250)
        return float(torch.stack([model.log_probs(part).mean() for part in rows]).mean().neg())


def main() -> None:
    """Print the rows."""
    for layers, width in SHAPES:
        for tokens in TOKENS:
            print(f"({layers}, {width}, {tokens}, {run(layers, width, tokens):.4f}),", flush=True)


if __name__ == "__main__":
    main()
