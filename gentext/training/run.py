"""A training between two steps: what a step does, and all that the next ones depend on.

The state is that of the optimisers, of the average, of the generators of noise, the losses so far.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gentext.core import Model, check_number
from gentext.core.signatures import keep_contract
from gentext.core.wrapped import SPREAD
from gentext.training import batches
from gentext.training.checkpoint import unique_weights
from gentext.training.config import PRECISIONS, TrainConfig, learning_rate
from gentext.training.ema import Average
from gentext.training.processes import Processes, divides, gathered, spread, unite
from gentext.training.shards import gather, part, scatter, sharded, whole


@dataclass
class History:
    """The loss of every update, by turn (of this process's share), and the seconds it all took."""

    losses: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def loss(self) -> list[float]:
        """The losses of the first turn, which for most models is the only one."""
        return next(iter(self.losses.values()))


class Run:
    """A training between two steps.

    ``kept`` is a clause that says which checkpoint there is, for the case that training breaks off;
    ``whole`` is false in the middle of a step, and ``begun`` the step in which the schedule began.

    Arguments:
        given: what the caller has of ``model``, such as a compiled form of it.

    ``model`` is what is trained: the ``original`` that was given, or this process's part of it.
    """

    def __init__(
        self, model: Model, config: TrainConfig, processes: Processes, *, given: Any = None
    ) -> None:
        self.original, self.config, self.processes = model, config, processes
        if divides(processes):
            if config.precision == "fp16":
                raise ValueError('a sharded model has no precision="fp16"; choose "bf16"')
            model = sharded(model, processes.device, processes.num_processes)
        self.model = model
        model.to(processes.device).train()
        self.parameters = {
            turn: [p for p in parameters if p.requires_grad]
            for turn, parameters in model.turns().items()
        }
        for turn in self.parameters:
            if not any(model.due(turn, step) for step in range(config.steps)):
                raise ValueError(
                    f"the {turn} is due in none of {config.steps} steps; train for more of them"
                )
        self.wrapped = _loss_of(model, given, processes, config)
        rates = model.rates()
        self.optimizers = {turn: _adamw(ps, rates, config) for turn, ps in self.parameters.items()}
        scaled = config.precision == "fp16"
        self.scaler = torch.amp.GradScaler(processes.device.type, enabled=scaled)
        self.average = None if config.ema is None else Average(model, config.ema)
        self.history = History({turn: [] for turn in self.parameters})
        self.step, self.begun, self.kept, self.whole = 0, 0, "", True
        self._pending: list[tuple[str, Tensor]] = []
        seed_generators(processes.device, self._seed("noise"))

    def advance(self, batch: tuple[Tensor, ...]) -> None:
        """Update the parameters of each turn that is due."""
        self.whole, stepped = False, False
        rate = learning_rate(self.step, self.config, self.begun)
        for turn, optimizer in self.optimizers.items():
            if not self.model.due(turn, self.step):
                continue
            for group in optimizer.param_groups:
                group["lr"] = rate * group["rate"]
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
        self.whole = True

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
        raise FloatingPointError(
            f"{what} became NaN or infinite by step {self.step}{self.kept}; try "
            f'lr={self.config.lr / 3:.1g}, clip=1.0, a longer warmup, or precision="no"'
        )

    def finish(self) -> None:
        """Leave in the model, the same in every process, what training is for."""
        unite(self.model, self.processes)
        if self.average is not None:
            self.average.copy_to_model()
        self.show().eval()

    def show(self) -> Model:
        """The model as it was given, with the weights of now; to be called in every process."""
        if self.original is not self.model:
            gather(self.model, self.original)
        return self.original

    def restored(self) -> None:
        """Go on from the weights that were put into the model as it was given."""
        if self.original is not self.model:
            scatter(self.original, self.model)

    def weights(self) -> dict[str, Tensor]:
        """What training is for: the weights by name, averaged where an average is kept."""
        averaged = {} if self.average is None else self.average.by_name()
        every = unique_weights(self.model) | averaged
        return {name: whole(weight) for name, weight in every.items()}

    def state_dict(self) -> dict[str, Any]:
        """All but ``weights`` that the next steps depend on: tensors and plain numbers by path.

        To be called in every process, since each has generators of its own.
        """
        if self._pending:
            self.look()
        state: dict[str, Any] = {"step": self.step, "begun": self.begun}
        state |= {"scaler": self.scaler.state_dict(), "seconds": self.history.seconds}
        for turn, losses in self.history.losses.items():
            state[f"losses/{turn}"] = torch.tensor(losses, dtype=torch.float64, device="cpu")
        for turn, optimizer in self.optimizers.items():
            for index, values in optimizer.state_dict()["state"].items():
                state |= {f"optimizer/{turn}/{index}/{key}": whole(v) for key, v in values.items()}
        for kind, mine in random_state(self.processes.device).items():
            state[f"random/{kind}"] = gathered(mine, self.processes)
        if self.average is not None:
            last = zip(self.average.names, self.average.source, strict=True)
            state |= {f"weights/{name}": whole(p) for name, p in last}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what ``state_dict`` gave, in a run whose model has the ``weights``.

        All of it may come from another device. There is no state of this one's generator then: it
        is seeded by seed and step.
        """
        if self.average is not None:
            now = zip(self.average.names, self.average.source, strict=True)
            self.average.copy_from_model([part(state[f"weights/{name}"], p) for name, p in now])
        for turn, optimizer in self.optimizers.items():
            groups = optimizer.state_dict()["param_groups"]
            moments = _nested(state, f"optimizer/{turn}/")
            ordered = [p for group in optimizer.param_groups for p in group["params"]]
            for index, values in moments.items():
                values |= {key: part(v, ordered[index]) for key, v in values.items()}
            optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.step, self.begun = state["step"], state.get("begun", 0)  # not in older files
        self.history.seconds = state["seconds"]
        self.scaler.load_state_dict(state["scaler"])
        self._load_random(state)
        for turn, losses in self.history.losses.items():
            losses[:] = state[f"losses/{turn}"].tolist()

    def _load_random(self, state: dict[str, Any]) -> None:
        """Go on with the noise of a state, as far as it knows the generators of this device."""
        device, rank = self.processes.device, self.processes.process_index
        seed_generators(device, self._seed("moved", self.step))
        here = random_state(device)
        # Cloned, because PyTorch reads a generator's state from the start of the storage.
        saved = {k: state[f"random/{k}"][rank].clone() for k in here if f"random/{k}" in state}
        set_random_state(device, here | saved)

    def _seed(self, *what: object) -> int:
        """A seed for this process's noise."""
        return batches.mix(what[0], self.config.seed, self.processes.process_index, *what[1:])

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        dtype = PRECISIONS[self.config.precision]
        device = self.processes.device.type
        return torch.autocast(device, dtype) if dtype else contextlib.nullcontext()


@contextlib.contextmanager
def keeping_random_state(device: torch.device) -> Iterator[None]:
    """Leave the global generators as they are, whatever is drawn inside."""
    before = random_state(device)
    try:
        yield
    finally:
        set_random_state(device, before)


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


def seed_generators(device: torch.device, seed: int) -> None:
    """Seed these generators, and no others."""
    devices = {"cpu": torch.device("cpu"), device.type: device}
    fresh = {kind: torch.Generator(d).manual_seed(seed) for kind, d in devices.items()}
    set_random_state(device, {kind: generator.get_state() for kind, generator in fresh.items()})


def _nested(state: dict[str, Any], prefix: str) -> dict[int, dict[str, Tensor]]:
    """What stands at the paths ``prefix``/index/key."""
    found: dict[int, dict[str, Tensor]] = {}
    for path, value in state.items():
        if path.startswith(prefix):
            index, key = path[len(prefix) :].split("/")
            found.setdefault(int(index), {})[key] = value
    return found


def _loss_of(
    model: Model, given: Any, processes: Processes, config: TrainConfig
) -> Callable[..., Tensor]:
    """What computes the loss and, in several processes, averages its gradients."""
    compiled = given not in (None, model) and not isinstance(given, SPREAD)
    if compiled and processes.num_processes == 1:
        return given
    wrapped = spread(model, processes)
    return torch.compile(wrapped) if config.compile else wrapped


def _adamw(
    parameters: list[nn.Parameter], rates: Mapping[nn.Parameter, float], config: TrainConfig
) -> torch.optim.AdamW:
    """AdamW with one group of parameters for each multiple of the common learning rate."""
    if not parameters:
        raise ValueError("the model has no parameters to train; set requires_grad on some")
    groups: dict[float, list[nn.Parameter]] = {}
    for p in parameters:
        groups.setdefault(rates.get(p, 1.0), []).append(p)
    for rate in groups:
        check_number("rate", rate, least=0)
    make = functools.partial(
        torch.optim.AdamW,
        [{"params": group, "rate": rate} for rate, group in groups.items()],
        lr=config.lr,
        betas=(config.betas[0], config.betas[1]),
        weight_decay=config.weight_decay,
    )
    try:
        return make(fused=True)
    except RuntimeError:  # no fused kernel for this device
        return make()


keep_contract(globals())
