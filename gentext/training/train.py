"""Training: one function, ``fit``, for every model of the book, on one device or several.

A run is a pure function of model, data and ``TrainConfig``: the order of the data depends on seed
and step alone, so does the learning rate, and the state of the generators of noise is saved. So a
run that was killed at any moment and resumed ends, on a CPU, with the same bits.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gentext.core import Model, check_count
from gentext.training import batches
from gentext.training import saver as states
from gentext.training.ema import Average

if TYPE_CHECKING:
    from accelerate import Accelerator

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
}
PRECISIONS = {"no": None, "fp16": torch.float16, "bf16": torch.bfloat16}
GLANCE = 0.2  # seconds between two looks at the losses: on a GPU each look waits for the device

Observer = Callable[[int, Model], Any]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train.

    Arguments:
        steps: updates of the weights in all; batch_size: examples in each, over all processes.
        lr: peak learning rate of AdamW, reached after ``warmup`` steps; schedule: "constant" or
            "cosine" (to zero after the last step); weight_decay: that of AdamW.
        betas: decay of AdamW's averages of the gradient and of its square; games often want a first
            of 0 or 0.5.
        clip: largest norm of the gradient, None for any.
        ema: decay of the moving average of the weights (such as 0.999) that training ends with,
            None for the weights of the last step. It is taken after every step, also after those in
            which the averaged weights stay as they are.
        precision: "no" (float32), "fp16" or "bf16"; compile: whether to use torch.compile.
        seed: of the data's order and of the noise in the loss; save_every: steps between two saves.
    """

    steps: int
    batch_size: int = 128
    lr: float = 1e-3
    warmup: int = 0
    schedule: str = "constant"
    weight_decay: float = 0.0
    betas: Sequence[float] = (0.9, 0.999)
    clip: float | None = None
    ema: float | None = None
    precision: str = "no"
    compile: bool = False
    seed: int = 0
    save_every: int = 1000

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "save_every"):
            check_count(name, getattr(self, name))
        self._require(0 < self.lr < math.inf, "lr", "above 0")
        self._require(self.warmup >= 0, "warmup", "at least 0")
        self._require(self.weight_decay >= 0, "weight_decay", "at least 0")
        pair = isinstance(self.betas, Sequence) and len(self.betas) == 2
        valid = pair and all(0 <= beta < 1 for beta in self.betas)
        self._require(valid, "betas", "two numbers in [0, 1)")
        object.__setattr__(self, "betas", tuple(self.betas))
        self._require(self.clip is None or self.clip > 0, "clip", "above 0, or None")
        self._require(self.ema is None or 0 <= self.ema < 1, "ema", "in [0, 1), or None")
        for name, table in (("schedule", SCHEDULES), ("precision", PRECISIONS)):
            allowed = list(table)
            self._require(getattr(self, name) in allowed, name, f"one of {allowed}")

    def _require(self, valid: bool, name: str, allowed: str) -> None:
        if not valid:
            raise ValueError(f"got {name}={getattr(self, name)!r}; {name} must be {allowed}")


@dataclass
class History:
    """The loss of every update, by turn (of this process's share), and the seconds it all took."""

    losses: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def loss(self) -> list[float]:
        """The losses of the first turn, which for most models is the only one."""
        return next(iter(self.losses.values()))


def fit(
    model: Model,
    data: Any,
    config: TrainConfig,
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    recipe: str | None = None,
    observers: Sequence[Observer] = (),
    progress: bool = True,
) -> History:
    """Train ``model`` in place and leave it in evaluation mode on the device where it was.

    Arguments:
        data: a data set (its ``train`` is used), a tuple of tensors of equal length, or an iterable
            of batches, read again every epoch; batch_size does not matter then.
        out: folder for ``checkpoint.safetensors``, written at the start, every ``save_every`` steps
            and at the end; resume: go on from there if it exists. ``save_every`` may change then,
            and ``steps`` under a constant schedule; all else must be as it was.
        recipe: name of the experiment, kept in the checkpoint.
        observers: functions (step, model) called after every step; what they draw at random does
            not change the training.

    Raises ValueError for data or a folder that cannot be used, and FloatingPointError when a loss
    is no longer finite: the last good checkpoint stays.
    """
    accelerator = _accelerator(model)
    home = next((p.device for p in model.parameters()), accelerator.device)
    outside = states.random_state(accelerator.device)
    try:
        source = batches.training_source(data, model)
        run = Run(model, config, accelerator)
        if out is not None:
            notes = states.notes(recipe, batches.fingerprint(source), data)
            run.saver = states.Saver(Path(out), notes)
            run.saver.begin(run, resume=resume)
        share = batches.Share(accelerator.process_index, accelerator.num_processes)
        stream = batches.endless_batches(
            source,
            config.batch_size,
            accelerator.device,
            seed=config.seed,
            start=run.step,
            share=share,
        )
        _loop(run, stream, observers, progress and accelerator.is_main_process)
        run.finish()
    finally:
        model.to(home)
        states.set_random_state(accelerator.device, outside)
    return run.history


def learning_rate(step: int, config: TrainConfig) -> float:
    """The learning rate of update ``step``, counted from 0."""
    ramp = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    done = max(0, step - config.warmup) / max(1, config.steps - config.warmup)
    return config.lr * ramp * SCHEDULES[config.schedule](done)


class Run:
    """A training between two steps."""

    def __init__(self, model: Model, config: TrainConfig, accelerator: Accelerator) -> None:
        self.model, self.config, self.accelerator = model, config, accelerator
        model.to(accelerator.device).train()
        self.parameters = {
            turn: [p for p in parameters if p.requires_grad]
            for turn, parameters in model.turns().items()
        }
        for turn in self.parameters:
            if not any(model.due(turn, step) for step in range(config.steps)):
                raise ValueError(
                    f"the {turn} is due in none of {config.steps} steps; train for more of them"
                )
        self.wrapped = _wrap(model, accelerator, config)
        self.optimizers = {turn: _adamw(ps, config) for turn, ps in self.parameters.items()}
        scaled = config.precision == "fp16"
        self.scaler = torch.amp.GradScaler(accelerator.device.type, enabled=scaled)
        self.average = None if config.ema is None else Average(model, config.ema)
        self.history = History({turn: [] for turn in self.parameters})
        self.step = 0
        self.saver: states.Saver | None = None
        self._pending: list[tuple[str, Tensor]] = []
        torch.manual_seed(batches.mix("noise", config.seed, accelerator.process_index))

    def advance(self, batch: tuple[Tensor, ...]) -> None:
        """Update the parameters of each turn that is due."""
        rate, stepped = learning_rate(self.step, self.config), False
        for turn, optimizer in self.optimizers.items():
            if not self.model.due(turn, self.step):
                continue
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            with self._autocast():
                loss = self.wrapped(*batch, turn=turn)
            self.scaler.scale(loss).backward()
            if self.config.clip is not None:
                self.scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(self.parameters[turn], self.config.clip)
            self.scaler.step(optimizer)
            self._pending.append((turn, loss.detach()))
            stepped = True
        if stepped:
            self.scaler.update()
        self.step += 1
        if self.average is not None:
            self.average.update(self.step)

    def look(self) -> float:
        """The latest loss; those since the last look go to the history, and must be finite."""
        if self._pending:
            values = torch.stack([loss for _, loss in self._pending]).tolist()
            turns = [turn for turn, _ in self._pending]
            self._pending.clear()
            for turn, value in zip(turns, values, strict=True):
                self.history.losses[turn].append(value)
                if not math.isfinite(value):
                    self.stop(f"the {turn}")
        return self.history.loss[-1] if self.history.loss else math.nan

    def stop(self, what: str) -> None:
        """Give up because ``what`` is not finite."""
        kept = self.saver.kept() if self.saver else ""
        raise FloatingPointError(
            f"{what} became NaN or infinite by step {self.step}{kept}; try "
            f'lr={self.config.lr / 3:.1g}, clip=1.0, a longer warmup, or precision="no"'
        )

    def save(self) -> None:
        """Write a checkpoint, if there is a place for it and nothing is NaN."""
        if self._pending:
            self.look()
        if self.saver is not None:
            self.saver.save(self)

    def finish(self) -> None:
        """Save, and leave in the model, the same in every process, what training is for."""
        self.save()
        if self.accelerator.num_processes > 1:
            for buffer in self.model.buffers():  # such as means seen in each process's own share
                torch.distributed.broadcast(buffer, src=0)
            self.accelerator.wait_for_everyone()
        if self.average is not None:
            self.average.copy_to_model()
        self.model.eval()

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        dtype = PRECISIONS[self.config.precision]
        device = self.accelerator.device.type
        return torch.autocast(device, dtype) if dtype else contextlib.nullcontext()


def _loop(
    run: Run, stream: Iterator[tuple[Tensor, ...]], observers: Sequence[Observer], progress: bool
) -> None:
    from tqdm.auto import tqdm

    steps, glanced, items = run.config.steps, time.perf_counter(), 0
    with tqdm(total=steps, initial=run.step, disable=not progress, unit="step") as bar:
        while run.step < steps:
            batch = next(stream)
            run.advance(batch)
            items += len(batch[0]) * run.accelerator.num_processes
            if observers:
                _show(run, observers)
            saving = run.step % run.config.save_every == 0
            elapsed = time.perf_counter() - glanced
            if elapsed > GLANCE or saving or run.step == steps:
                loss = run.look()
                elapsed = time.perf_counter() - glanced
                run.history.seconds += elapsed
                bar.set_postfix_str(f"loss {loss:.4g}, {items / elapsed:.3g} items/s", False)
                bar.update(run.step - bar.n)
                glanced, items = glanced + elapsed, 0
            if saving:
                run.save()


def _show(run: Run, observers: Sequence[Observer]) -> None:
    """Call the observers so that training goes on as if they were not there."""
    before = states.random_state(run.accelerator.device)
    for observer in observers:
        observer(run.step, run.model)
    run.model.train()
    states.set_random_state(run.accelerator.device, before)


def _accelerator(model: Model) -> Accelerator:
    from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType

    # A turn of several leaves the parameters of the others without gradients.
    several = DistributedDataParallelKwargs(find_unused_parameters=len(model.turns()) > 1)
    # Without a GPU, accelerate connects its processes only when told that they are to use the CPU.
    cpu = not (torch.cuda.is_available() or torch.backends.mps.is_available())
    accelerator = Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=[several])
    kind = accelerator.distributed_type
    if kind in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise ValueError(f"fit does not shard models ({kind.value}); launch it data-parallel")
    if accelerator.num_processes != int(os.environ.get("WORLD_SIZE", "1")):
        raise ValueError(
            f"{os.environ['WORLD_SIZE']} processes were launched but are not connected; "
            "launch them by accelerate launch or torchrun, with ACCELERATE_USE_CPU=true on CPUs"
        )
    return accelerator


def _wrap(model: Model, accelerator: Accelerator, config: TrainConfig) -> Callable[..., Tensor]:
    wrapped: Any = model if accelerator.num_processes == 1 else accelerator.prepare_model(model)
    return torch.compile(wrapped) if config.compile else wrapped


def _adamw(parameters: list[nn.Parameter], config: TrainConfig) -> torch.optim.AdamW:
    if not parameters:
        raise ValueError("the model has no parameters to train; set requires_grad on some")
    make = functools.partial(
        torch.optim.AdamW,
        parameters,
        lr=config.lr,
        betas=(config.betas[0], config.betas[1]),
        weight_decay=config.weight_decay,
    )
    try:
        return make(fused=True)
    except RuntimeError:  # no fused kernel for this device
        return make()
