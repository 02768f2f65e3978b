"""``gentext train``: an experiment, trained into a folder."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from gentext.cli import options


def train(
    name: options.Name,
    steps: options.TrainSteps = None,
    out: options.TrainOut = None,
    budget: options.Budget = None,
    seed: options.Seed = 0,
    batch_size: options.BatchSize = None,
    lr: options.LearningRate = None,
    precision: options.Precision = None,
    resume: options.Resume = False,
    full_data: options.FullData = False,
) -> None:
    """Train an experiment; a folder with its checkpoint results.

    Interrupted? The same command with --resume goes on exactly where it was saved.

    Example: gentext train vae_fashion --steps 200 --out runs/first
    """
    import torch

    from gentext import recipes
    from gentext.training import saver
    from gentext.training.train import fit

    out = out or Path("runs") / name
    torch.manual_seed(seed)  # of the first weights, which a resumed run may need again
    model, data, config = recipes.build(name, budget, full_data=full_data)
    given = {"steps": steps, "batch_size": batch_size, "lr": lr, "precision": precision}
    settings: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    config = replace(config, seed=seed, **settings)
    config = replace(config, warmup=min(config.warmup, config.steps // 5))
    first = os.environ.get("RANK", "0") == "0"
    if first:
        where = f" ({data.source})" if data.source else ""
        typer.echo(f"training on {data.name}{where}, {len(data.train[0])} examples", err=True)
    try:
        history = fit(model, data, config, out=out, resume=resume, recipe=name)
    except KeyboardInterrupt as stop:
        typer.secho("Stopped; with --resume it goes on from the last save.", fg="red", err=True)
        raise typer.Exit(130) from stop
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    if first:
        last = history.loss[-100:]
        typer.echo(
            f"{config.steps} steps in {history.seconds:.0f} s; loss {sum(last) / len(last):.4g} "
            f"(mean of the last {len(last)} steps); saved {out / saver.NAME}"
        )
