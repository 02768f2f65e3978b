"""``gentext finetune``: a trained encoder, put to another task with few labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gentext.cli import options
from gentext.cli.train_command import ending_well

if TYPE_CHECKING:
    from torch import Tensor

    from gentext.cli.trained import Trained
    from gentext.data import Dataset
    from gentext.transfer.finetuning import Finetuned

TRAINED: dict[str, Any] = {"steps": 300, "batch_size": 64, "lr": 1e-3, "patience": 5}
METHODS: dict[str, dict[str, Any]] = {  # what each takes, with what is taken if it is not given
    "probe": {},
    "full": {**TRAINED, "decay": 1.0},
    "lora": {**TRAINED, "lr": 3e-3, "rank": 4, "layers": None},
    "l2-sp": {**TRAINED, "decay": 1.0, "pull": 0.01},
}
LOOKS = 20  # at the validation data
PART = 256  # examples in one pass


def finetune(
    name: options.Labelled,
    encoder: options.From,
    method: options.Method = "probe",
    labels_per_class: options.LabelsPerClass = None,
    steps: options.FinetuneSteps = None,
    lr: options.LearningRate = None,
    batch_size: options.FinetuneBatch = None,
    decay: options.Decay = None,
    pull: options.Pull = None,
    rank: options.Rank = None,
    layers: options.Layers = None,
    patience: options.Patience = None,
    seed: options.Seed = 0,
    baseline: options.Baseline = True,
    full_data: options.FullData = False,
    out: options.FinetuneOut = None,
) -> None:
    """Put a trained encoder to another task: classes, from few labels.

    A new linear head learns on its features, and with it as much of the encoder as --method says.
    Of a probe the best fit is found at once; other methods take steps, and the weights that are
    best on the validation data are kept. Beside it stands what a linear classifier reaches without
    any encoder. Then: `gentext evaluate NAME --checkpoint FOLDER`.

    Example: gentext finetune digits --from vae_digits --method full --labels-per-class 10
    """
    import torch

    from gentext.cli import labelled_data, places, trained
    from gentext.training import checkpoint, saver

    given: dict[str, Any] = {
        "steps": steps,
        "lr": lr,
        "batch_size": batch_size,
        "patience": patience,
    }
    given |= {"decay": decay, "pull": pull, "rank": rank, "layers": layers}
    settings = _settings(method, given)
    folder = (out or Path("runs") / f"{name}-{method}").expanduser()
    places.check_folder(folder, saver.NAME)
    found = trained.encoder(encoder)
    data = labelled_data.load(name, found, found.model, full_data=full_data)
    if labels_per_class is not None:
        data = labelled_data.few(data, labels_per_class, seed=seed)
    torch.manual_seed(seed)
    model = _begun(found, data, method, settings)
    _say_what(found, data, model, method)
    with ending_well(folder):
        step = _trained(model, data, settings, seed) if settings else _fitted(model, data)
    right = {
        split: _predicted(model, getattr(data, split)[0]) == getattr(data, split)[1]
        for split in ("validation", "test")
    }
    typer.echo(f"{'share of the examples that are right':38}validation   test (95 % interval)")
    _say_score(f"fine-tuned ({method})", right)
    metrics = {f"{split}_accuracy": float(r.double().mean()) for split, r in right.items()}
    of: dict[str, Any] = {"recipe": name, "step": step, "metrics": metrics, "data": data}
    file = checkpoint.save(folder / saver.NAME, model, **of)
    if baseline:
        _compare(data, right["test"])
    typer.echo(f"saved {file}")


def _settings(method: str, given: dict[str, Any]) -> dict[str, Any]:
    """What a method is given, or what it takes otherwise; ValueError for what it does not take."""
    from gentext.core import chosen

    settings = dict(chosen("method", method, METHODS))
    for option, value in given.items():
        if value is None:
            continue
        if option not in settings:
            takers = " or ".join(other for other, known in METHODS.items() if option in known)
            raise ValueError(
                f"--{option.replace('_', '-')} belongs to --method {takers}, and you chose "
                f"{method}; leave it out"
            )
        settings[option] = value
    return settings


def _begun(found: Trained, data: Dataset, method: str, settings: dict[str, Any]) -> Finetuned:
    """The model before its training; ValueError where encoder, method and data do not fit."""
    from gentext.transfer.finetuning import Finetuned

    how: dict[str, Any] = {key: settings[key] for key in ("decay", "pull") if key in settings}
    if method == "lora":
        how["lora"] = {"names": _layers(found, settings["layers"]), "rank": settings["rank"]}
    frozen, classes = method == "probe", len(data.classes)
    try:
        model = Finetuned(encoder=found.model, classes=classes, frozen=frozen, **how)
        model = model.to(found.device)
        for split in (data.train, data.validation, data.test):
            model.check_batch(*split)
        model.check(*data.train)
    except ValueError as error:  # in the words of the command line
        raise ValueError(str(error).replace("give frozen=True", "choose --method probe")) from error
    return model


def _layers(found: Trained, given: str | None) -> list[str]:
    """The layers to update: those given, else q and v of attention, else all linear ones."""
    from torch import nn

    from gentext.core import Represents
    from gentext.sequences.attention import MultiHeadAttention

    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
    model = found.model
    backbone = model.backbone() if isinstance(model, Represents) else [model]
    inside = {part for module in backbone for part in module.modules()}
    if any(isinstance(part, MultiHeadAttention) for part in inside):
        return ["q", "v"]
    linear = [n for n, part in model.named_modules() if part in inside and type(part) is nn.Linear]
    if not linear:
        raise ValueError(
            f"the features of {found.name} go through no linear layer that low-rank updates could "
            "be added to; choose --method full"
        )
    return linear


def _fitted(model: Finetuned, data: Dataset) -> int:
    """Give the head the best fit on the features, as the baseline is fitted; 0, for no steps."""
    import torch

    from gentext.transfer.probe import LinearProbe

    features = {
        split: _in_parts(model.eval().features, model, getattr(data, split)[0])
        for split in ("train", "validation")
    }
    validation = features["validation"], data.validation[1]
    probe = LinearProbe.fit(features["train"], data.train[1], validation, classes=len(data.classes))
    weight = probe.weight / probe.std
    with torch.no_grad():
        model.head.weight.copy_(weight)
        model.head.bias.copy_(probe.bias - weight @ probe.mean)
    typer.echo(f"the best penalty on the validation data is {probe.penalty:g}")
    return 0


def _trained(model: Finetuned, data: Dataset, settings: dict[str, Any], seed: int) -> int:
    """Train until the validation data say that it is enough; gives the step that is kept."""
    from torch.nn.functional import cross_entropy

    from gentext.training.config import TrainConfig
    from gentext.training.early_stopping import EarlyStopping
    from gentext.training.train import fit

    x, y = data.validation
    steps, patience = settings["steps"], settings["patience"]
    how = {key: settings[key] for key in ("steps", "batch_size", "lr")}
    config = TrainConfig(**how, seed=seed, schedule="cosine", warmup=steps // 10)

    def unlikely(model: Any) -> Tensor:
        return cross_entropy(_in_parts(model.logits, model, x), y)

    watch = EarlyStopping(unlikely, every=max(1, steps // LOOKS), patience=patience or 1)
    history = fit(model, data, config, observers=[watch] if patience else [], progress=True)
    made = len(history.loss)
    if patience:
        watch.restore(model)
    kept = watch.best_step if patience else made
    typer.echo(f"{made} steps in {history.seconds:.0f} s; kept are the weights of step {kept}")
    return kept


def _in_parts(function: Any, model: Any, x: Tensor) -> Tensor:
    """What ``function`` says of the examples, in main memory."""
    import torch

    device = next(model.parameters()).device
    with torch.no_grad():
        return torch.cat([function(part.to(device)).cpu() for part in x.split(PART)])


def _predicted(model: Any, x: Tensor) -> Tensor:
    return _in_parts(model.predict, model, x)


def _say_what(found: Trained, data: Dataset, model: Finetuned, method: str) -> None:
    """What is trained on what, and how much of it learns."""
    from gentext.cli import labelled_data

    sizes = (len(getattr(data, split)[1]) for split in ("train", "validation", "test"))
    train, validation, test = sizes
    where = f" ({data.source})" if data.source else ""
    typer.echo(
        f"{found.name} ({type(found.model).__name__}) on {data.name}{where}: {train} labels of "
        f"{len(data.classes)} classes to train on, {validation} to validate, {test} to test"
    )
    if data.tokenizer is not None:
        unknown = labelled_data.share_unknown(data.notes["train"], data.tokenizer)
        typer.echo(
            f"texts are rows of {data.shape[0]} tokens, longer ones lose their ends; of their "
            f"characters {unknown:.1%} are not in the vocabulary"
        )
    learn = sum(p.numel() for p in model.parameters() if p.requires_grad)
    stay = sum(p.numel() for p in model.parameters()) - learn
    typer.echo(f"{method}: {learn:,} parameters learn, {stay:,} stay as they are")


def _say_score(who: str, right: dict[str, Tensor]) -> None:
    """The accuracies of one classifier, the second with its interval."""
    from torch import Generator

    from gentext.evaluation.estimates import bootstrap_interval

    validation, test = (right[split].double() for split in ("validation", "test"))
    low, high = bootstrap_interval(test, generator=Generator().manual_seed(0))
    typer.echo(f"  {who:36}{validation.mean():10.4f}   {test.mean():.4f} ({low:.4f} to {high:.4f})")


def _compare(data: Dataset, right: Tensor) -> None:
    """The baseline, and the difference to it on the same test examples."""
    from torch import Generator

    from gentext.cli import labelled_data
    from gentext.evaluation.estimates import paired_bootstrap

    typer.echo("fitting the baseline; --no-baseline leaves it out", err=True)
    called, predicted = labelled_data.baseline(data)
    its = {split: predicted[split] == getattr(data, split)[1] for split in ("validation", "test")}
    _say_score(called, its)
    gap = paired_bootstrap(
        right.double(), its["test"].double(), generator=Generator().manual_seed(0)
    )
    typer.echo(
        f"  {'fine-tuned less baseline':36}{'':10}   {gap.difference:+.4f} "
        f"({gap.low:+.4f} to {gap.high:+.4f})"
    )
