"""Training: one function, ``fit``, for every model of the book, on one device or several.

A run is a pure function of model, data and ``TrainConfig``: the order of the data depends on seed
and step alone, so does the learning rate, and the state of the generators of noise is saved. So a
run that was killed at any moment and resumed ends, on a CPU, with the same bits.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gentext.core import Model
from gentext.core.contract import keep_contract
from gentext.training import batches
from gentext.training.config import TrainConfig
from gentext.training.run import History, Run, keeping_random_state
from gentext.training.saver import Saver

if TYPE_CHECKING:
    from accelerate import Accelerator

GLANCE = 0.2  # seconds between two looks at the losses: on a GPU each look waits for the device

Observer = Callable[[int, Model], Any]


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
    with keeping_random_state(accelerator.device):
        try:
            source = batches.training_source(data, model)
            run, saver = Run(model, config, accelerator), None
            if out is not None:
                saver = Saver(Path(out), recipe=recipe, data=data, source=source)
                saver.begin(run, resume=resume)
            _loop(run, _stream(run, source), saver, observers, progress)
            run.finish()
        finally:
            model.to(home)
    return run.history


def _stream(run: Run, source: batches.Source) -> Iterator[tuple[Tensor, ...]]:
    """This process's share of the batches that ``run`` has not seen."""
    accelerator, config = run.accelerator, run.config
    return batches.endless_batches(
        source,
        config.batch_size,
        accelerator.device,
        seed=config.seed,
        start=run.step,
        share=batches.Share(accelerator.process_index, accelerator.num_processes),
    )


def _loop(
    run: Run,
    stream: Iterator[tuple[Tensor, ...]],
    saver: Saver | None,
    observers: Sequence[Observer],
    progress: bool,
) -> None:
    """Advance to the last step; look at the losses and save, also after the last, now and then."""
    from tqdm.auto import tqdm

    steps, glanced, items = run.config.steps, time.perf_counter(), 0
    hidden = not (progress and run.accelerator.is_main_process)
    with tqdm(total=steps, initial=run.step, disable=hidden, unit="step") as bar:
        while run.step < steps:
            batch = next(stream)
            run.advance(batch)
            items += len(batch[0]) * run.accelerator.num_processes
            if observers:
                _show(run, observers)
            saving = run.step % run.config.save_every == 0 or run.step == steps
            elapsed = time.perf_counter() - glanced
            if elapsed > GLANCE or saving:
                loss = run.look()
                elapsed = time.perf_counter() - glanced
                run.history.seconds += elapsed
                bar.set_postfix_str(f"loss {loss:.4g}, {items / elapsed:.3g} items/s", False)
                bar.update(run.step - bar.n)
                glanced, items = glanced + elapsed, 0
            if saving and saver is not None:
                saver.save(run)


def _show(run: Run, observers: Sequence[Observer]) -> None:
    """Call the observers so that training goes on as if they were not there."""
    with keeping_random_state(run.accelerator.device):
        for observer in observers:
            observer(run.step, run.model)
    run.model.train()


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


keep_contract(globals())
