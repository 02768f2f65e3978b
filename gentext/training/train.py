"""Training: one function, ``fit``, for every model of the book, on one device or several.

A run is a pure function of model, data and ``TrainConfig``: the order of the data depends on seed
and step alone, so does the learning rate, and the state of the generators of noise is saved. So a
run that was stopped or killed at any moment and resumed ends, on a CPU, with the same bits.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gentext.core import Model, bare
from gentext.core.signatures import keep_contract
from gentext.training import batches
from gentext.training.config import TrainConfig
from gentext.training.processes import surroundings
from gentext.training.progress import Progress
from gentext.training.run import History, Run, keeping_random_state
from gentext.training.saver import Saver
from gentext.training.stopping import Enough, Stop, stopping

GLANCE = 0.2  # seconds between two looks at the losses: on a GPU each look waits for the device

Observer = Callable[[int, Model], Any]


def fit(
    model: nn.Module,
    data: Any,
    config: TrainConfig,
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    recipe: str | None = None,
    observers: Sequence[Observer] = (),
    progress: bool | None = None,
) -> History:
    """Train ``model`` in place and leave it in evaluation mode on the device where it was.

    It is trained on a GPU where there is one. Of ``torch.compile(model)`` the compiled loss is
    used; what ``DataParallel`` or ``DDP`` hold is trained by itself.

    Arguments:
        data: a data set (its ``train`` is used), a tuple of tensors of equal length, or an iterable
            of batches, read again every epoch; batch_size does not matter then.
        out: folder for ``checkpoint.safetensors``, written at the start, every ``save_every`` steps
            or ``save_minutes``, on Ctrl-C and at the end; resume: go on from there if it exists, on
            any device, though on another one with other noise and rounding. How to save may change
            then, and ``steps``: a constant schedule goes on as if it had been so long from the
            beginning; a cosine that has ended begins anew for the steps added, warm-up and all.
        recipe: name of the experiment, kept in the checkpoint.
        observers: functions (step, model) called after every step; what they draw at random does
            not change the training. One that raises ``Enough``, such as ``EarlyStopping``, ends it.
        progress: show how far it is, None where somebody watches: in a terminal or notebook.

    Raises ValueError for a model, data or a folder that cannot be used, and FloatingPointError when
    a loss is no longer finite: the last good checkpoint stays. The first Ctrl-C raises
    KeyboardInterrupt after the step, with the model as good as it is; a second one at once.
    """
    inner = bare(model)
    _check(inner)
    processes = surroundings(inner)
    home = next((p.device for p in inner.parameters()), processes.device)
    with keeping_random_state(processes.device):
        try:
            source = batches.training_source(data, inner)
            run, saver = Run(inner, config, processes, given=model), None
            if out is not None:
                saver = Saver(Path(out), recipe=recipe, data=data, source=source)
                saver.begin(run, resume=resume)
            _complete(run, _stream(run, source), saver, observers, progress)
        finally:
            inner.to(home)
            model.eval()
    return run.history


def _check(model: Model) -> None:
    """Raise ValueError for what training cannot begin with."""
    if not torch.is_grad_enabled():
        raise ValueError(
            "gradients are switched off; call fit outside torch.no_grad and torch.inference_mode"
        )
    if any(p.is_inference() for p in model.parameters()):
        raise ValueError("the model was built in torch.inference_mode; build it outside of it")


def _stream(run: Run, source: batches.Source) -> Iterator[tuple[Tensor, ...]]:
    """This process's share of the batches that ``run`` has not seen."""
    processes, config = run.processes, run.config
    return batches.endless_batches(
        source,
        config.batch_size,
        processes.device,
        seed=config.seed,
        start=run.step,
        share=batches.Share(processes.process_index, processes.num_processes),
    )


def _complete(
    run: Run,
    stream: Iterator[tuple[Tensor, ...]],
    saver: Saver | None,
    observers: Sequence[Observer],
    progress: bool | None,
) -> None:
    """Make the steps that remain; what breaks in between two of them loses none of those made."""
    alone = run.processes.num_processes == 1  # of several, each may be at another step
    with stopping(alone) as stop:
        try:
            _loop(run, stream, saver, observers, progress, stop)
        except FloatingPointError:
            raise
        except BaseException as error:
            if not (alone and run.whole):
                raise
            if saver is not None:
                saver.save(run)
            run.finish()
            if not stop.asked and not isinstance(error, KeyboardInterrupt):
                raise
            said = f"training stopped after step {run.step} of {run.config.steps}{run.kept}"
            raise KeyboardInterrupt(said) from None
    run.finish()


def _loop(
    run: Run,
    stream: Iterator[tuple[Tensor, ...]],
    saver: Saver | None,
    observers: Sequence[Observer],
    progress: bool | None,
    stop: Stop,
) -> None:
    """Advance to the last step; look at the losses and save, also after the last, now and then."""
    steps, glanced, items = run.config.steps, time.perf_counter(), 0
    shown = progress if run.processes.is_main_process else False
    with contextlib.closing(Progress(steps, run.step, shown=shown)) as bar:
        while run.step < steps:
            batch = next(stream)
            run.advance(batch)
            items += len(batch[0]) * run.processes.num_processes
            enough = _show(run, observers) if observers else False
            saving = run.step % run.config.save_every == 0 or run.step == steps or enough
            saving = saving or (saver is not None and saver.is_late(run))
            elapsed = time.perf_counter() - glanced
            if elapsed > GLANCE or saving:
                loss = run.look()
                elapsed = time.perf_counter() - glanced
                run.history.seconds += elapsed
                bar.update(run.step, loss, items / elapsed)
                glanced, items = glanced + elapsed, 0
            if saving and saver is not None:
                saver.save(run)
            if stop.asked:
                raise KeyboardInterrupt
            if enough:
                break


def _show(run: Run, observers: Sequence[Observer]) -> bool:
    """Call the observers so that training goes on as if they were not there, or had enough."""
    enough = False
    with keeping_random_state(run.processes.device):
        model = run.show()
        for observer in observers:
            try:
                observer(run.step, model)
            except Enough:
                enough = True
    run.model.train()
    return enough


keep_contract(globals())
