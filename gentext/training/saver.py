"""The whole state of a training in one checkpoint, from which it goes on exactly.

The file is also a checkpoint of the model: what ``checkpoint.load`` reads are the weights training
is for (the moving average, where there is one). Tensors under ``training/`` hold the rest.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gentext.training import checkpoint

if TYPE_CHECKING:
    from gentext.training.train import Run

NAME = "checkpoint.safetensors"
PREFIX = checkpoint.TRAINING


def notes(recipe: str | None, fingerprint: list[str], data: Any) -> dict[str, Any]:
    """What a checkpoint says of the training: recipe, data, and the tokenizer of texts."""
    tokenizer = getattr(data, "tokenizer", None)
    text = None if tokenizer is None else tokenizer.to_json()
    return {"recipe": recipe, "data": fingerprint, "tokenizer": text}


class Saver:
    """Keeps the state of a run in ``folder``; ``notes`` say what is trained on what."""

    def __init__(self, folder: Path, notes: dict[str, Any]) -> None:
        self.file, self.notes = folder / NAME, notes
        self.saved_at: int | None = None

    def begin(self, run: Run, *, resume: bool) -> None:
        """Save the start of ``run``, or go on from what is in the folder if asked to."""
        if not self.file.exists():
            self.save(run)
            return
        if not resume:
            raise ValueError(
                f"{self.file.parent} already holds a checkpoint; resume it (resume=True, "
                "--resume), choose another folder, or delete it"
            )
        header, tensors = checkpoint.read(self.file)
        self._check_same(run, header)
        checkpoint.restore(run.model, tensors, self.file)
        extra = {n[len(PREFIX) :]: t for n, t in tensors.items() if n.startswith(PREFIX)}
        _restore(run, header, extra)
        self.saved_at = run.step

    def save(self, run: Run) -> None:
        """Write the state of ``run``, unless something in it is not finite."""
        if self.saved_at == run.step:
            return
        tensors = _state(run)
        finite = [t.isfinite().all().cpu() for t in tensors.values() if t.is_floating_point()]
        if not torch.stack(finite).all():
            run.stop("a weight")
        if run.accelerator.is_main_process:
            checkpoint.write(self.file, tensors, self._header(run))
        self.saved_at = run.step

    def kept(self) -> str:
        """A clause that says what is still there."""
        return f"; {self.file} still holds step {self.saved_at}"

    def _header(self, run: Run) -> dict[str, Any]:
        known = {"recipe": self.notes["recipe"], "tokenizer": self.notes["tokenizer"]}
        header = {**checkpoint.describe(run.model), **known, "metrics": {}}
        header["settings"] = checkpoint.settings(run.model)
        return {**header, "step": run.step, "training": self._training(run)}

    def _training(self, run: Run) -> dict[str, Any]:
        return {
            "config": asdict(run.config) | {"betas": list(run.config.betas)},
            "processes": run.accelerator.num_processes,
            "device": run.accelerator.device.type,
            "data": self.notes["data"],
            "scaler": run.scaler.state_dict(),
            "seconds": run.history.seconds,
        }

    def _check_same(self, run: Run, header: dict[str, Any]) -> None:
        """ValueError unless ``run`` would have had the same past as the one that was saved."""
        checkpoint.check_same_settings(run.model, header, self.file)
        if "training" not in header:
            raise ValueError(f"{self.file} holds weights only; load it and train in a new folder")
        now, then = self._training(run), header["training"]
        free = {"save_every"} | ({"steps"} if run.config.schedule == "constant" else set())
        keys = [key for key in {**then["config"], **now["config"]} if key not in free]
        facts = [(key, then["config"].get(key), now["config"].get(key)) for key in keys]
        facts += [(k, then[k], now[k]) for k in ("processes", "device", "data")]
        odd = [f"{key} was {old!r} and is now {new!r}" for key, old, new in facts if old != new]
        if header.get("tokenizer") != self.notes["tokenizer"]:
            odd.append("the tokenizer is another one, so the same numbers are other tokens")
        if header["step"] > run.config.steps:
            odd.append(f"it is at step {header['step']}, beyond steps={run.config.steps}")
        if odd:
            raise ValueError(
                f"cannot resume {self.file}: {'; '.join(odd)}; train as before, or in a new folder"
            )


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The state of the global generators: the CPU's, and that of ``device``."""
    state = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        state[device.type] = getattr(torch, device.type).get_rng_state(device)
    return state


def set_random_state(device: torch.device, state: dict[str, Tensor]) -> None:
    """Put back what ``random_state`` gave."""
    torch.set_rng_state(state["cpu"])
    if device.type != "cpu":
        getattr(torch, device.type).set_rng_state(state[device.type], device)


def _state(run: Run) -> dict[str, Tensor]:
    tensors = checkpoint.unique_weights(run.model)
    losses = {turn: torch.tensor(v, dtype=torch.float64) for turn, v in run.history.losses.items()}
    extra = {f"losses/{turn}": values for turn, values in losses.items()}
    for turn, optimizer in run.optimizers.items():
        for index, values in optimizer.state_dict()["state"].items():
            extra |= {f"optimizer/{turn}/{index}/{key}": v for key, v in values.items()}
    for kind, state in random_state(run.accelerator.device).items():
        everyone = run.accelerator.gather(state.to(run.accelerator.device))
        extra[f"random/{kind}"] = everyone.reshape(run.accelerator.num_processes, -1)
    if run.average is not None:
        extra |= {f"weights/{name}": tensors[name] for name in run.average.names}
        tensors |= dict(zip(run.average.names, run.average.weights, strict=True))
    return tensors | {PREFIX + name: value for name, value in extra.items()}


def _restore(run: Run, header: dict[str, Any], extra: dict[str, Tensor]) -> None:
    """Set all of ``run`` but the weights, which the model has already."""
    if run.average is not None:
        torch._foreach_copy_(run.average.weights, run.average.source)
        torch._foreach_copy_(
            run.average.source, [extra[f"weights/{name}"] for name in run.average.names]
        )
    for turn, optimizer in run.optimizers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in extra.items():
            if name.startswith(f"optimizer/{turn}/"):
                index, key = name.split("/")[-2:]
                state.setdefault(int(index), {})[key] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    device, rank = run.accelerator.device, run.accelerator.process_index
    # Cloned, because PyTorch reads a generator's state from the start of the storage.
    mine = {kind: extra[f"random/{kind}"][rank].clone() for kind in random_state(device)}
    set_random_state(device, mine)
    run.scaler.load_state_dict(header["training"]["scaler"])
    run.step, run.history.seconds = header["step"], header["training"]["seconds"]
    for turn, losses in run.history.losses.items():
        losses += extra[f"losses/{turn}"].tolist()
