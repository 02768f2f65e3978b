"""What surrounds the steps of a training: observers, progress, NaN, crashes, two processes.

Run as a script, this file is the program that the tests of crashes and of several processes start.
"""

import importlib
import json
import math
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from models_to_train import (
    CONFIG,
    QUIET,
    Denoiser,
    Duel,
    Fragile,
    Line,
    digest,
    examples,
    interrupted,
    regression,
    seeded,
)

from gentext import checkpoint, train
from gentext.training.config import TrainConfig
from gentext.training.run import Run
from gentext.training.saver import NAME
from gentext.training.train import fit


def test_observers_see_every_step_and_disturb_nothing():
    seen = []

    def observe(step, model):
        seen.append(step)
        model.eval()
        torch.rand(7)

    models = [seeded(Denoiser) for _ in range(2)]
    histories = [
        fit(m, (examples(),), CONFIG, observers=o, **QUIET)
        for m, o in zip(models, ([], [observe]), strict=True)
    ]
    assert digest(models[0], histories[0]) == digest(models[1], histories[1])
    assert seen == list(range(1, 41))


def test_the_callers_generator_is_left_alone_and_does_not_matter():
    results = []
    for outside in (1, 2):
        model = seeded(Denoiser)
        torch.manual_seed(outside)
        expected = torch.rand(3)
        torch.manual_seed(outside)
        fit(model, (examples(),), CONFIG, **QUIET)
        assert torch.equal(torch.rand(3), expected)
        assert not model.training
        results.append(digest(model))
    assert results[0] == results[1]


def test_losses_are_looked_at_only_now_and_then(monkeypatch):
    """Each look makes a GPU wait, so there must not be one a step."""
    looks = []
    look = Run.look
    monkeypatch.setattr(train, "GLANCE", math.inf)
    monkeypatch.setattr(Run, "look", lambda run: looks.append(run.step) or look(run))
    history = fit(seeded(Denoiser), (examples(),), CONFIG, **QUIET)
    assert looks == list(range(4, 41, 4))
    assert len(history.loss) == 40


@pytest.mark.parametrize("how", ["loss", "gradient"])
@pytest.mark.parametrize("at", [9, 12])
def test_nan_stops_the_training_and_keeps_the_last_good_checkpoint(tmp_path, at, how):
    with pytest.raises(FloatingPointError, match=r"by step \d+; .* still holds step 8; try lr="):
        fit(seeded(lambda: Fragile(at=at, how=how)), (examples(),), CONFIG, out=tmp_path, **QUIET)
    assert checkpoint.info(tmp_path / NAME)["step"] == 8
    kept = checkpoint.load(tmp_path / NAME, model=Fragile(at=at, how=how))
    good = seeded(Denoiser)
    interrupted(9, tmp_path / "g")
    checkpoint.load(tmp_path / "g" / NAME, model=good)
    assert digest(kept) == digest(good)


def test_nan_stops_a_training_without_a_checkpoint_too():
    with pytest.raises(FloatingPointError, match=r"loss became NaN .* by step 7; try lr="):
        fit(seeded(lambda: Fragile(at=7, how="loss")), (examples(),), TrainConfig(steps=7), **QUIET)


def run_script(task, folder, *launcher):
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    if torch.cuda.is_available():
        env["ACCELERATE_USE_CPU"] = "true"
    command = [*(launcher or [sys.executable]), __file__, task, str(folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_killed_at_any_moment_and_resumed_it_ends_with_the_same_bits(tmp_path):
    whole, *deaths, resumed = run_script("crash", tmp_path)
    assert deaths == ["killed"] * 9
    assert resumed == whole
    assert os.listdir(tmp_path) == [NAME]


def test_two_processes_agree_with_each_other_and_with_one(tmp_path):
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    launcher += ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    launcher += ["--dynamo_backend", "no", "--main_process_port", "0"]
    one, two = (json.loads(line) for line in run_script("processes", tmp_path, *launcher))
    for name in ("denoiser", "resumed", "duel"):
        assert one[name] == two[name], name
    assert one["resumed"] == one["denoiser"]
    assert one["shares"] != two["shares"]
    assert one["noise"] != two["noise"]
    alone = seeded(Line).double()
    fit(alone, regression(), LINE_CONFIG, **QUIET)
    assert one["line"] == two["line"]
    assert one["line"] == pytest.approx(alone.map.weight[0].tolist(), rel=1e-9)


LINE_CONFIG = TrainConfig(steps=15, batch_size=20, lr=0.1)


def processes(folder):
    """In each of several processes: train, and print what came out as one line."""
    report = {}
    fit(model := seeded(Denoiser), (examples(),), CONFIG, **QUIET)
    report["denoiser"] = digest(model)
    alike = examples()[:1].repeat(100, 1)
    report["noise"] = fit(seeded(Denoiser), (alike,), TrainConfig(steps=1), **QUIET).loss
    interrupted(23, folder)
    model = seeded(Denoiser, 9)
    fit(model, (examples(),), CONFIG, out=folder, resume=True, **QUIET)
    report["resumed"] = digest(model)
    fit(duel := Duel(), (examples(dtype=torch.float64),), TrainConfig(steps=9, lr=0.1), **QUIET)
    report["duel"] = digest(duel)
    line = seeded(Line).double()
    report["shares"] = fit(line, regression(), LINE_CONFIG, **QUIET).loss
    report["line"] = line.map.weight[0].tolist()
    os.write(1, f"{json.dumps(report)}\n".encode())  # at once, or two lines become one
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def crash(folder):
    """Train in children that die at different moments, each going on from what the last left."""
    for slow in ("accelerate", "tqdm.auto", "torch._dynamo"):  # once, and not in every child
        importlib.import_module(slow)
    print(in_child(lambda: print_digest(None)), end="")
    chance = random.Random(0)
    deaths = [die_at_step(chance.randint(1, 6)) for _ in range(5)]
    deaths += [die_in(os, "fsync", half=True), die_in(os, "replace", early=True)]
    deaths += [die_in(os, "replace", early=False), die_in(os, "fsync", half=True, nth=2)]
    chance.shuffle(deaths)
    for death in deaths:
        in_child(lambda death=death: print_digest(folder, death()))
        print("killed")
    print(in_child(lambda: print_digest(folder)), end="")


def in_child(work):
    """What ``work`` prints in a child process; nothing if the child killed itself."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 1)
        work()
        sys.stdout.flush()
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        output = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == (0 if output else -signal.SIGKILL), status
    return output


def print_digest(folder, observers=()):
    model = seeded(Denoiser)
    history = fit(
        model, (examples(),), CONFIG, out=folder, resume=True, observers=observers, **QUIET
    )
    print(digest(model, history))


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_step(k):
    """Die after ``k`` steps."""

    def arm():
        steps = []
        return [lambda step, model: (steps.append(step), len(steps) == k and die())]

    return arm


def die_in(module, name, *, early=True, half=False, nth=1):
    """Die in the ``nth`` call of a function: before or after it, or with half the file written."""

    def arm():
        original, calls = getattr(module, name), []

        def fatal(*args):
            calls.append(args)
            if len(calls) < nth:
                return original(*args)
            if half:
                os.ftruncate(args[0], os.fstat(args[0]).st_size // 2)
            if not early:
                original(*args)
            return die()

        setattr(module, name, fatal)
        return ()

    return arm


if __name__ == "__main__":
    {"crash": crash, "processes": processes}[sys.argv[1]](Path(sys.argv[2]))
