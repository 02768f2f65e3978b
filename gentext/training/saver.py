"""The whole state of a training in one checkpoint, from which it goes on exactly.

The file is also a checkpoint of the model: what ``checkpoint.load`` reads are the weights training
is for (the moving average, where there is one). Tensors under ``training/`` hold the rest.
"""

from __future__ import annotations

import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gentext.core.signatures import keep_contract
from gentext.training import checkpoint
from gentext.training.batches import Source, fingerprint
from gentext.training.config import TrainConfig
from gentext.training.run import Run
from gentext.training.storage import NAME

PREFIX = checkpoint.TRAINING
FREE = ("save_every", "save_minutes", "steps")  # what a training that goes on may change


class Saver:
    """Keeps the state of a run in ``folder``, with what it says of the training.

    Arguments:
        recipe: name of the experiment; data: what ``fit`` was given; source: what of it is trained
            on.
    """

    def __init__(self, folder: Path, *, recipe: str | None, data: Any, source: Source) -> None:
        self.file, self.source = folder.expanduser() / NAME, fingerprint(source)
        self.notes = {"recipe": recipe, **checkpoint.describe_data(data), "metrics": {}}
        self.saved_at: int | None = None
        self.saved = time.monotonic()

    def begin(self, run: Run, *, resume: bool) -> None:
        """Save the start of ``run``, or go on from what is in the folder if asked to."""
        checkpoint.check_rebuilds(run.original)
        if not self.file.exists():
            self.save(run)
            return
        if not resume:
            raise ValueError(
                f"{self.file.parent} already holds a checkpoint; resume it (resume=True), "
                "choose another folder, or delete it"
            )
        header, tensors = checkpoint.read(self.file)
        self._check_same(run, header)
        checkpoint.restore(run.original, tensors, self.file)
        run.restored()
        state = {n[len(PREFIX) :]: t for n, t in tensors.items() if n.startswith(PREFIX)}
        run.load_state_dict({**header["training"], **state, "step": header["step"]})
        if self._is_lengthened(run.config, header) and run.config.schedule != "constant":
            run.begun = run.step
        self._note(run)

    def is_late(self, run: Run) -> bool:
        """Whether the last save was so long ago that the next is due."""
        minutes = run.config.save_minutes
        if minutes is None or run.processes.num_processes > 1:
            return False  # several processes must save after the same step
        return time.monotonic() - self.saved > 60 * minutes

    def save(self, run: Run) -> None:
        """Write the state of ``run``, unless that was tried or something in it is not finite."""
        if self.saved_at == run.step:
            return
        self.saved_at = run.step
        state = run.state_dict()
        rest = {path: state.pop(path) for path in list(state) if isinstance(state[path], Tensor)}
        tensors = run.weights() | {PREFIX + path: value for path, value in rest.items()}
        finite = [t.isfinite().all().cpu() for t in tensors.values() if t.is_floating_point()]
        if not torch.stack(finite).all():
            run.stop("a weight")
        if run.processes.is_main_process:
            checkpoint.write(self.file, tensors, self._header(run, **state))
        self._note(run)

    def _note(self, run: Run) -> None:
        self.saved_at, self.saved = run.step, time.monotonic()
        run.kept = f"; {self.file} still holds step {run.step}"

    def _header(self, run: Run, *, step: int, **numbers: Any) -> dict[str, Any]:
        header = {**checkpoint.describe(run.original), **self.notes, "step": step}
        header["settings"] = checkpoint.settings(run.original)
        return {**header, "training": self._past(run) | numbers}

    def _past(self, run: Run) -> dict[str, Any]:
        """What decides how a training goes, besides the model."""
        return {
            "config": asdict(run.config) | {"betas": list(run.config.betas)},
            "processes": run.processes.num_processes,
            "device": run.processes.device.type,
            "data": self.source,
        }

    def _check_same(self, run: Run, header: dict[str, Any]) -> None:
        """ValueError unless ``run`` would have had the same past as the one that was saved."""
        checkpoint.check_same_settings(run.original, header, self.file)
        if "training" not in header:
            raise ValueError(f"{self.file} holds weights only; load it and train in a new folder")
        now, then = self._past(run), header["training"]
        keys = [key for key in {**then["config"], **now["config"]} if key not in FREE]
        facts = [(key, then["config"].get(key), now["config"].get(key)) for key in keys]
        facts += [(k, then[k], now[k]) for k in ("processes", "data")]
        odd = [f"{key} was {old!r} and is now {new!r}" for key, old, new in facts if old != new]
        odd += self._of_length(run.config, header)
        if header.get("tokenizer") != self.notes["tokenizer"]:
            odd.append("the tokenizer is another one, so the same numbers are other tokens")
        if odd:
            raise ValueError(
                f"cannot resume {self.file}: {'; '.join(odd)}; train as before, or in a new folder"
            )

    def _of_length(self, config: TrainConfig, header: dict[str, Any]) -> list[str]:
        """What there is against the number of steps."""
        done, then = header["step"], header["training"]["config"]["steps"]
        if done > config.steps:
            return [f"it is at step {done}, beyond steps={config.steps}"]
        if config.schedule == "constant" or config.steps == then:
            return []
        if done < then:
            return [
                f"steps was {then} and is now {config.steps}, and a {config.schedule} cannot be "
                f"changed on its way (it is at step {done}): go on to {then} first"
            ]
        return []

    def _is_lengthened(self, config: TrainConfig, header: dict[str, Any]) -> bool:
        return config.steps > int(header["training"]["config"]["steps"])


def config_in(folder: Path) -> TrainConfig:
    """How the training in a folder was configured.

    Raises ValueError where there is none.
    """
    header, _ = checkpoint.read(folder)
    if "training" not in header:
        raise ValueError(f"{folder} holds weights only, and no training that could go on")
    known = {field.name for field in fields(TrainConfig)}
    return TrainConfig(**{k: v for k, v in header["training"]["config"].items() if k in known})


keep_contract(globals())
