"""Ways to fine-tune the BERT of poems to tell genres: accuracy, what learns, and what is forgotten.

``python experiments/finetuning_runs.py`` writes, for each way, number of labels and seed, the
accuracy on the 900 test poems, the number of weights that learn, the CPU seconds, and the masked
loss of the encoder on Tang quatrains afterwards, in nats a masked character, at the same masks for
all (``before`` is that of the encoder as it came). All ways make as many updates; of three learning
rates the one with the lowest loss on validation labels counts, as many of these as there are to
learn from. The probe is a tuned logistic regression on the features instead, and the baseline the
tuned linear classifier of n-grams of the same characters.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from recorded import record

import gentext as gt
from gentext.data import prepared

LABELS = (33, 100, 333)  # a class, of three
RATES = (3e-4, 1e-3, 3e-3)
STEPS, BATCH = 150, 32
LENGTH = 33  # tokens that the encoder reads: 32 characters and the end
MASKED = 256  # quatrains whose loss is measured
WAYS: dict[str, dict[str, Any]] = {
    "full": {},
    "full, slower below": {"decay": 0.5},
    "L2-SP": {"pull": 0.01},
    "LoRA": {"lora": {"names": ["q", "v"], "rank": 8, "alpha": 16}},
    "from scratch": {},
}
Set = tuple[torch.Tensor, ...]


def drawn(part: Set, texts: Any, each: int, seed: int) -> tuple[Set, list[str]]:
    """``each`` examples of every class (or all there are), and their texts."""
    x, y = part
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    kept = torch.cat([order[y[order] == k][:each] for k in y.unique()])
    return (x[kept], y[kept]), [texts[i] for i in kept.tolist()]


@torch.no_grad()
def masked_loss(encoder: Any, poems: torch.Tensor) -> float:
    """−log p of masked characters in nats, at masks that are the same each time."""
    encoder.eval()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return sum(float(encoder.loss(part)) for part in poems.split(64)) / len(poems.split(64))


def encoder_of(way: str) -> Any:
    """The BERT of poems, or one of its kind with weights as they are drawn."""
    encoder = gt.zoo.load("bert_poems")
    return gt.BERT(**encoder.arguments) if way == "from scratch" else encoder


def tuned(way: str, few: Set, held: Set, test: Set, poems: Any, seed: int, steps: int) -> Any:
    """What is written down of one way, for the best of the rates."""
    best: dict[str, Any] = {"held": math.inf}
    for lr in RATES:
        torch.manual_seed(seed)
        model = gt.Finetuned(encoder=encoder_of(way), classes=3, dropout=0.1, **WAYS[way])
        options: dict[str, Any] = {"batch_size": BATCH, "lr": lr, "clip": 1.0, "seed": seed}
        config = gt.TrainConfig(steps=steps, warmup=steps // 10, schedule="cosine", **options)
        before = time.process_time()
        gt.fit(model, few, config, progress=False)
        seconds = time.process_time() - before
        with torch.no_grad():
            loss = float(model.loss(*held))
        if loss < best["held"]:
            best = {"held": loss, "lr": lr, "seconds": round(seconds, 1)}
            best["accuracy"] = round(float(model.accuracy(*test)), 4)
            best["learns"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
            best["masked"] = round(masked_loss(model.encoder, poems), 4)
    return best


@torch.no_grad()
def probed(few: Set, held: Set, test: Set, poems: Any) -> dict[str, Any]:
    """The same of a logistic regression on the features as they came."""
    model = gt.Finetuned(encoder=encoder_of("probe"), classes=3, frozen=True).eval()
    before = time.process_time()
    x, others = (model.features(part) for part in (few[0], held[0]))
    probe = gt.LinearProbe.fit(x, few[1], (others, held[1]), classes=3)
    row: dict[str, Any] = {"seconds": round(time.process_time() - before, 1)}
    row["accuracy"] = round(float(probe.accuracy(model.features(test[0]), test[1])), 4)
    row["learns"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return row | {"masked": round(masked_loss(model.encoder, poems), 4)}


def run(seed: int, steps: int) -> dict[str, Any]:
    """All ways and the baseline, by labels a class, for one seed."""
    tokenizer = gt.zoo.tokenizer("bert_poems")
    data = prepared.genres("zh", tokenizer=tokenizer, length=LENGTH)
    corpus = gt.text.load("genre-zh")
    poems = prepared.poems().test[0][:MASKED]
    found: dict[str, Any] = {"before": round(masked_loss(encoder_of("full"), poems), 4)}
    for each in LABELS:
        few, texts = drawn(data.train, corpus.train, each, seed)
        held, others = drawn(data.validation, corpus.validation, each, seed)
        rows: dict[str, Any] = {"probe": probed(few, held, data.test, poems)}
        for way in WAYS:
            rows[way] = tuned(way, few, held, data.test, poems, seed, steps)
        read = [[text[: LENGTH - 1] for text in part] for part in (texts, others, corpus.test)]
        linear = gt.baselines.ngram_baseline(read[0], few[1], read[1], held[1])
        right = (linear.predict(read[2]) == data.test[1]).float().mean()
        rows["n-grams"] = {"accuracy": round(float(right), 4)}
        found[str(each)] = rows
    return found


if __name__ == "__main__":
    record(__doc__, "finetuning", run, steps=STEPS)
