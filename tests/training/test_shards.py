"""Two processes, data-parallel and sharded, against one: the same losses and the same weights."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gentext as gt
from gentext.core import Model
from gentext.training import checkpoint
from gentext.training.shards import UNITS, part, sharded, whole

STEPS, KILLED = 8, 5
CONFIG = gt.TrainConfig(
    steps=STEPS, batch_size=6, lr=1e-2, warmup=2, clip=0.5, ema=0.9, save_every=2, schedule="cosine"
)
QUIET = {"progress": False}
WAYS = {"data-parallel": {}, "sharded": {"ACCELERATE_USE_FSDP": "true", UNITS: "TransformerBlock"}}


def fresh(seed: int | None = 0) -> gt.GPT:
    """The same model everywhere; ``seed`` None: another one in each process but the first."""
    seed = int(os.environ["RANK"]) if seed is None else seed
    torch.manual_seed(seed)
    return gt.GPT(vocab_size=11, context=5, layers=2, heads=2, width=8).double()


def rows() -> torch.Tensor:
    return torch.randint(11, (30, 5), generator=torch.Generator().manual_seed(1))


def numbers(model: Model) -> list[float]:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()


def said(folder: Path, rank: int) -> Path:
    """Where a process writes down what came out, which is more than a pipe takes at once."""
    return folder / f"{rank}.json"


def launched(task: str, folder: Path, way: str) -> subprocess.CompletedProcess[str]:
    """This file as a script in two processes."""
    with socket.socket() as probe:  # a port that nobody uses
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command = [*launcher, "--master_port", str(port), __file__, task, str(folder)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", **WAYS[way]}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_train_as_one_also_after_one_was_killed(way: str, tmp_path: Path) -> None:
    killed = launched("killed", tmp_path, way)
    assert "SIGKILL" in killed.stderr, killed.stderr[-3000:]
    assert checkpoint.info(tmp_path)["step"] == KILLED - 1
    done = launched("resumed", tmp_path, way)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads(said(tmp_path, rank).read_text("utf-8")) for rank in (0, 1))
    alone = fresh()
    seen: list[float] = []
    look = [lambda step, model: seen.append(model.tokens.weight.sum().item())]
    history = gt.fit(alone, (rows(),), CONFIG, observers=look, **QUIET)
    torch.testing.assert_close(first["whole"], numbers(alone), rtol=0, atol=1e-11)
    torch.testing.assert_close(first["resumed"], first["whole"], rtol=0, atol=0)
    torch.testing.assert_close(first["seen"], seen, rtol=0, atol=1e-11)
    assert first["whole"] == second["whole"]
    both = [sum(pair) / 2 for pair in zip(first["losses"], second["losses"], strict=True)]
    torch.testing.assert_close(both, history.loss, rtol=0, atol=1e-11)
    assert first["losses"] != second["losses"]  # each of its own share
    saved = checkpoint.load(tmp_path)
    assert type(saved) is gt.GPT
    torch.testing.assert_close(numbers(saved), numbers(alone), rtol=0, atol=1e-11)
    assert first["held"] + second["held"] == len(numbers(alone))
    assert (
        abs(first["held"] - second["held"]) <= 16
    )  # a row of the 11 tokens, and of the 5 positions


class Game(gt.GPT):
    def turns(self):
        return {"loss": [self.norm.weight], "other": [self.norm.bias]}


class Scaled(gt.GPT):
    def __init__(self) -> None:
        super().__init__(vocab_size=3, context=2, layers=1, heads=1, width=2)
        self.scale = torch.nn.Parameter(torch.tensor(1.0))


def test_what_cannot_be_sharded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    with pytest.raises(ValueError, match=r"Game has several losses, loss, other; .* data-parallel"):
        sharded(Game(vocab_size=3, context=2, layers=1, heads=1, width=2), cpu, 2)
    with pytest.raises(ValueError, match="the weight scale of Scaled is a single number"):
        sharded(Scaled(), cpu, 2)
    monkeypatch.setenv(UNITS, "TransformerBlock, LlamaBlock")
    with pytest.raises(ValueError, match=r"layer class 'LlamaBlock'.*TransformerBlock"):
        sharded(fresh(), cpu, 2)


def test_a_whole_tensor_is_its_own_part() -> None:
    x = torch.randn(3)
    assert whole(x) is x
    assert part(x, torch.zeros(3)) is x


def main(task: str, folder: str) -> None:
    """In each of two processes: train, be killed, or go on and say what came out."""

    def kill(step: int, model: Model) -> None:
        if step == KILLED and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)

    if task == "killed":
        gt.fit(fresh(), (rows(),), CONFIG, out=folder, observers=[kill], **QUIET)
        return
    seen: list[float] = []
    model = fresh(None)
    look = [lambda step, model: seen.append(model.tokens.weight.sum().item())]
    history = gt.fit(model, (rows(),), CONFIG, observers=look, **QUIET)
    again = fresh(9)
    gt.fit(again, (rows(),), CONFIG, out=folder, resume=True, **QUIET)
    report = {"whole": numbers(model), "resumed": numbers(again), "losses": history.loss}
    parts = sharded(model, torch.device("cpu"), 2)
    report |= {"seen": seen, "held": sum(p.to_local().numel() for p in parts.parameters())}
    said(Path(folder), int(os.environ["RANK"])).write_text(json.dumps(report), "utf-8")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
