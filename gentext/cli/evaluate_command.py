"""``gentext evaluate``: what a trained model is worth on test data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from gentext.cli import options

if TYPE_CHECKING:
    from gentext.cli.trained import Trained
    from gentext.data import Dataset

UNITS = {
    **dict.fromkeys(("accuracy", "exact", "recall"), "share of the examples"),
    **dict.fromkeys(("precision", "near"), "share of the samples"),
    **dict.fromkeys(("perplexity", "pseudo_perplexity"), "tokens"),
    **dict.fromkeys(("bleu", "chrf"), "of 100"),
    "n": "examples",
    "se": "nats, standard error",
    "bits_per_char": "bits/character",
    "frechet": "squared distance of features",
    "mmd": "squared discrepancy",
    "reverse_kl": "nats",
    "modes": "found",
}


def evaluate(
    name: options.Name,
    checkpoint: options.Checkpoint = None,
    limit: options.Limit = None,
    k: options.Importance = 100,
    seed: options.Seed = 0,
    full_data: options.FullData = False,
) -> None:
    """Measure a trained model on the test data of its experiment, or of its fine-tuning.

    They are the excerpt that comes with gentext, unless you choose --full-data or have put data of
    that name into $GENTEXT_DATA; the first line says which they are.

    Example: gentext evaluate vae_fashion --limit 500
    """
    from gentext import zoo
    from gentext.cli import trained
    from gentext.evaluation import metrics

    found = trained.load(name, checkpoint)
    data = _data_of(found, full_data, bundled=checkpoint is None)
    _check_same_kind(found, data)
    typer.echo(_heading(found, data, limit, seed))
    typer.echo("measuring; fewer examples (--limit) or samples (--k) take less time", err=True)
    features = zoo.classifier(data.name)
    if features is not None:
        features.to(found.device)
    settings: dict[str, Any] = {"seed": seed, "limit": limit, "k": k, "features": features}
    for key, value in metrics.evaluate(found.model, data, **settings).items():
        number = f"{value:12.0f}" if key in ("n", "modes") else f"{value:12.4f}"
        typer.echo(f"  {key:26}{number}  {unit(key)}")


def unit(metric: str) -> str:
    """The unit of a metric that ``metrics.evaluate`` gives."""
    return "bits/dim" if metric.endswith("bits_per_dim") else UNITS.get(metric, "nats per example")


def _data_of(found: Trained, full_data: bool, *, bundled: bool) -> Dataset:
    """The data of the experiment that a model is called after, or those it was fine-tuned on."""
    from gentext import recipes, zoo
    from gentext.cli import labelled_data
    from gentext.transfer.finetuning import Finetuned

    name = found.name
    if isinstance(found.model, Finetuned):
        return labelled_data.load(name, found, found.model.encoder, full_data=full_data)
    recipe = zoo.card(name)["recipe"] if bundled and name not in recipes.RECIPES else name
    _, data, _ = recipes.build(recipe, "quick", full_data=full_data)
    return data


def _heading(found: Trained, data: Dataset, limit: int | None, seed: int) -> str:
    """What is measured on which data, and on how many of them."""
    total = len(data.test[0])
    n = f"{min(limit or total, total)} of {total}"
    where = f" ({data.source})" if data.source else ""
    return (
        f"{found.name}{_trained_on(found, data)} on {data.name}{where}, {n} test examples, "
        f"seed {seed}"
    )


def _trained_on(found: Trained, data: Dataset) -> str:
    """The data of the training, where they are known and are not those of the measurement."""
    name, n = (found.data.name, found.data.train) if found.data else (None, None)
    if name is None or (name == data.name and n in (None, len(data.train[0]))):
        return ""
    return f", trained on {'' if n is None else f'{n} examples of '}{name},"


def _check_same_kind(found: Trained, data: Dataset) -> None:
    """Raise ValueError where a model of other data cannot be measured on these."""
    own, of = found.tokenizer, found.data
    if own is not None and own.to_json() != data.tokenizer.to_json():
        raise ValueError(
            f"{found.name} was trained with another tokenizer than that of these texts; evaluate "
            "it on the texts that it was trained on (see $GENTEXT_DATA)"
        )
    if of is not None and of.shape and of.shape != data.shape:
        raise ValueError(
            f"{found.name} was trained on {of.name} of shape {of.shape}, and {data.name} "
            f"({data.source}) is of shape {data.shape}; evaluate it on data of its own shape "
            "(see $GENTEXT_DATA)"
        )
