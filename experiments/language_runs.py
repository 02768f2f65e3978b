"""What a small BERT of both languages does for three tasks, beside rivals that need none.

``python experiments/language_runs.py`` writes, seed by seed, for the encoder ``bert_bilingual`` and
for the same network from scratch:

``classes``: the genre of Chinese poems and of English passages, by 33, 100 or 333 labels a class
to learn from and as many to choose by: accuracy on the test texts, −log p, calibration error (ECE,
15 bins) and the same at the temperature that validation labels prefer; the rival is the tuned
logistic regression of n-grams on the same beginnings of the texts. All make 150 updates of 32; of
three learning rates the one with the lowest validation loss counts.

``translation``: English to Chinese from 500 or 2,000 of the pairs made by rules: BLEU on 300 test
pairs, exact shares, and the loss on them. ``titles``: the title of a quatrain: ROUGE-L on all test
poems, beside the first line, the title of the most similar training poem, and the best line; and of
the line that a head on the encoder chooses, which learns from the line that is most like the title.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from recorded import record

import gentext as gt
from gentext.data.prepared import BOTH, SENTENCE
from gentext.evaluation.calibration import expected_calibration_error, temperature_scale
from gentext.evaluation.language import rouge_l, translation_scores
from gentext.tokens.framing import framed_rows

LABELS = (33, 100, 333)  # a class, of three
RATES = (3e-4, 1e-3, 3e-3)
STEPS, BATCH = 150, 32
PAIRS, TRANSLATED = (500, 2000), 300
WRITING: dict[str, Any] = {"steps": 600, "batch_size": 32, "lr": 1e-3}
STARTS = ("pre-trained", "from scratch")
WRITERS = {
    "pre-trained": 0.3,
    "pre-trained, full rate": 1.0,
    "from scratch": 1.0,
}  # of the encoder


def encoder(start: str) -> Any:
    """The BERT, or one of its kind with weights as they are drawn."""
    model = gt.zoo.load("bert_bilingual")
    return gt.OriginalBERT(**model.arguments) if start == "from scratch" else model


def drawn(labels: torch.Tensor, each: int, seed: int) -> torch.Tensor:
    """The numbers of ``each`` examples of every class, or of all there are."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    return torch.cat([order[labels[order] == k][:each] for k in labels.unique()])


def judged(log_p: torch.Tensor, y: torch.Tensor, held: torch.Tensor, y_held: Any) -> Any:
    """Accuracy, −log p and ECE, the last two also at the best temperature of validation."""
    row: dict[str, Any] = {"accuracy": round(float((log_p.argmax(1) == y).double().mean()), 4)}
    try:
        T = temperature_scale(held, y_held)
    except ValueError:  # right of all that is held out
        T = 1.0
    for name, scale in (("", 1.0), (" at T", T)):
        p = (log_p / scale).softmax(1)
        row[f"nll{name}"] = round(-float(p.gather(1, y[:, None]).log().mean()), 4)
        row[f"ece{name}"] = round(float(expected_calibration_error(p, y)), 4)
    return row | {"T": round(T, 3)}


@torch.no_grad()
def logits(model: Any, x: torch.Tensor) -> torch.Tensor:
    """Of all examples, in parts."""
    return torch.cat([model.eval().logits(part) for part in x.split(256)])


def tuned(start: str, few: Any, held: Any, seed: int, steps: int) -> Any:
    """The classifier of the best rate."""
    best, kept = math.inf, None
    for lr in RATES:
        torch.manual_seed(seed)
        model = gt.Finetuned(encoder=encoder(start), classes=3, dropout=0.1, pool="first")
        options: dict[str, Any] = {"batch_size": BATCH, "lr": lr, "clip": 1.0, "seed": seed}
        config = gt.TrainConfig(steps=steps, warmup=steps // 10, schedule="cosine", **options)
        gt.fit(model, few, config, progress=False)
        loss = float(torch.nn.functional.cross_entropy(logits(model, held[0]), held[1]))
        if loss < best:
            best, kept = loss, model
    return kept


def classes(language: str, tokenizer: Any, seed: int, steps: int) -> dict[str, Any]:
    """Of all numbers of labels, both starts and the n-grams."""
    corpus = gt.text.load(f"genre-{language}")
    x, y = {}, {}
    for split, documents in corpus.splits.items():
        x[split] = framed_rows(tokenizer, documents, BOTH)[0]
        y[split] = torch.tensor(corpus.labels[split])
    found: dict[str, Any] = {}
    for each in LABELS:
        few, held = (drawn(y[split], each, seed) for split in ("train", "validation"))
        parts = {"train": few, "validation": held, "test": torch.arange(len(y["test"]))}
        texts = {s: [tokenizer.decode(row) for row in x[s][k].tolist()] for s, k in parts.items()}
        labels = {s: y[s][k] for s, k in parts.items()}
        given = texts["train"], labels["train"], texts["validation"], labels["validation"]
        tried = [gt.baselines.ngram_baseline(*given, unit=u) for u in ("characters", "words")]
        rival = max(tried if language == "en" else tried[:1], key=lambda n: n.validation_accuracy)
        scores = (rival.log_prob(texts["test"]), rival.log_prob(texts["validation"]))
        rows = {"n-grams": judged(scores[0], labels["test"], scores[1], labels["validation"])}
        sets = [(x[s][parts[s]], labels[s]) for s in parts]
        for start in STARTS:
            model = tuned(start, *sets[:2], seed, steps)
            own = logits(model, sets[2][0]), logits(model, sets[1][0])
            rows[start] = judged(own[0], labels["test"], own[1], labels["validation"])
        found[str(each)] = rows
    return found


def writer(start: str, tokenizer: Any, data: Any, seed: int, steps: int) -> Any:
    """A decoder on the encoder, trained on (source, target)."""
    torch.manual_seed(seed)
    rate = WRITERS[start]
    options: dict[str, Any] = {"vocab_size": tokenizer.size, "rate": rate, "context": SENTENCE}
    model = gt.language_tasks.EncoderDecoder(encoder=encoder(start), **options)
    settings: dict[str, Any] = WRITING | {"steps": steps, "warmup": steps // 10}
    gt.fit(model, data, gt.TrainConfig(seed=seed, clip=1.0, **settings), progress=False)
    return model


def rows_of(tokenizer: Any, texts: Any, length: int) -> torch.Tensor:
    """Framed sources, as the encoder has read them."""
    return framed_rows(tokenizer, list(texts), length)[0]


def targets(tokenizer: Any, texts: Any, length: int) -> torch.Tensor:
    """Tokens and their end."""
    from gentext.tokens.tokenizer import filled

    encoded = [tokenizer.encode(text)[: length - 1] for text in texts]
    return filled(encoded, length, pad=tokenizer.pad, eos=tokenizer.eos)


def translation(tokenizer: Any, seed: int, steps: int) -> dict[str, Any]:
    """BLEU, exact share and loss by the number of pairs to learn from."""
    corpus = gt.text.load("pairs")
    free = corpus.train[5000:-5000]  # of which the BERT has read neither side
    order = torch.randperm(len(free), generator=torch.Generator().manual_seed(seed)).tolist()
    test = corpus.test[:TRANSLATED]
    source = rows_of(tokenizer, [a for a, _ in test], BOTH)
    target = targets(tokenizer, [b for _, b in test], BOTH)
    found: dict[str, Any] = {}
    for n in PAIRS:
        few = [free[k] for k in order[:n]]
        data = (
            rows_of(tokenizer, [a for a, _ in few], BOTH),
            targets(tokenizer, [b for _, b in few], BOTH),
        )
        rows = {}
        for start in WRITERS:
            model = writer(start, tokenizer, data, seed, steps)
            made = [tokenizer.decode(row) for row in model.translate(source).tolist()]
            scores = translation_scores(made, [b for _, b in test])
            with torch.no_grad():
                loss = float(model.eval().loss(source, target))
            rows[start] = {k: round(v, 4) for k, v in scores.items()} | {
                "loss": round(loss, 4),
                "examples": [[*pair, text] for pair, text in zip(test[:6], made[:6], strict=True)],
            }
        found[str(n)] = rows
    return found


def lines_of(poem: str) -> list[str]:
    """The four lines of a quatrain."""
    return [part for part in poem.replace("。", "，").split("，") if part]


def most_like(lines: list[str], title: str) -> int:
    """The number of the line with the largest ROUGE-L; the first, where all have the same."""
    return int(rouge_l(lines, [title] * len(lines)).f.argmax())


def chosen_lines(
    start: str, tokenizer: Any, corpus: Any, lines: Any, seed: int, steps: int
) -> list[str]:
    """Of each poem the line that a head on the encoder finds most probable."""
    known = [(lines_of(poem), title) for poem, title in corpus.train]
    known = [(some, title) for some, title in known if set(title) & set("".join(some))]
    y = torch.zeros(len(known), 4)
    for row, (some, title) in zip(y, known, strict=True):
        row[most_like(some, title)] = 1
    torch.manual_seed(seed)
    model = gt.language_tasks.Extractive(encoder=encoder(start), sentences=4, rate=WRITERS[start])
    settings: dict[str, Any] = WRITING | {"steps": min(steps, STEPS), "warmup": steps // 40}
    data = (*read(tokenizer, [some for some, _ in known]), y)
    gt.fit(model, data, gt.TrainConfig(seed=seed, clip=1.0, **settings), progress=False)
    taken = model.predict(*read(tokenizer, lines), 1).int().argmax(1).tolist()
    return [some[k] for some, k in zip(lines, taken, strict=True)]


def read(tokenizer: Any, lines: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens after a [CLS], and the number of the line of each."""
    tokens, segments = gt.language_tasks.sentence_rows(tokenizer, lines, BOTH - 1)
    front = torch.ones(len(tokens), 1, dtype=torch.long)
    return torch.cat([tokenizer.bos * front, tokens], 1), torch.cat([-front, segments], 1)


def titles(tokenizer: Any, seed: int, steps: int) -> dict[str, Any]:
    """ROUGE-L of titles that are written, and of what needs no network."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    corpus = gt.text.load("titles")
    poems, wanted = ([pair[k] for pair in corpus.test] for k in (0, 1))
    data = (
        rows_of(tokenizer, [a for a, _ in corpus.train], BOTH),
        targets(tokenizer, [b for _, b in corpus.train], 16),
    )
    vectors = TfidfVectorizer(analyzer="char", ngram_range=(1, 2))
    known = vectors.fit_transform([a for a, _ in corpus.train])
    nearest = (vectors.transform(poems) @ known.T).argmax(1).A1.tolist()
    lines = [lines_of(poem) for poem in poems]
    best = [line[most_like(line, title)] for line, title in zip(lines, wanted, strict=True)]
    made = {
        "first line": [line[0] for line in lines],
        "most similar poem": [corpus.train[k][1] for k in nearest],
        "best line": best,
    }
    source = rows_of(tokenizer, poems, BOTH)
    for start in WRITERS:
        model = writer(start, tokenizer, data, seed, steps)
        written = model.translate(source, length=12)
        made[start] = [tokenizer.decode(row) for row in written.tolist()]
        made[f"chosen, {start}"] = chosen_lines(start, tokenizer, corpus, lines, seed, steps)
    found: dict[str, Any] = {
        name: round(float(rouge_l(texts, wanted).f.mean()), 4) for name, texts in made.items()
    }
    return found | {
        "examples": [[*row] for row in zip(poems, wanted, *made.values(), strict=True)][:8]
    }


def run(seed: int, steps: int) -> dict[str, Any]:
    """All three tasks."""
    tokenizer = gt.zoo.tokenizer("bert_bilingual")
    few = min(steps, STEPS)
    return {
        "classes": {language: classes(language, tokenizer, seed, few) for language in ("zh", "en")},
        "translation": translation(tokenizer, seed, steps),
        "titles": titles(tokenizer, seed, steps),
    }


if __name__ == "__main__":
    record(__doc__, "language", run, steps=WRITING["steps"], seeds=3)
