"""What surrounds the steps of a training: observers, progress, NaN, crashes, two processes.

Run as a script, this file is the program that the tests of crashes and of several processes start.
"""

import importlib
import itertools
import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
from dataclasses import replace
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


# Stopping


def press_at(step, times=1):
    def observer(now, model):
        if now == step:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)

    return observer


def pressed_in(step, model, times=1):
    """The model, with Ctrl-C in the middle of a step, counted from 1."""
    loss, calls = model.loss, itertools.count(1)

    def pressing(*batch):
        if next(calls) == step:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)
        return loss(*batch)

    model.loss = pressing
    return model


class Pressing(list):
    """Ctrl-C comes while a batch is read, and the reading fails of it."""

    def __iter__(self):
        for number, batch in enumerate(super().__iter__()):
            if number == 6:
                os.kill(os.getpid(), signal.SIGINT)
                raise RuntimeError("a worker of the loader died")
            yield batch


def resumed_like_the_whole(folder, data=None):
    data = (examples(),) if data is None else data
    model, whole = seeded(Denoiser, 9), seeded(Denoiser)
    history = fit(model, data, CONFIG, out=folder, resume=True, **QUIET)
    return digest(model, history) == digest(whole, fit(whole, data, CONFIG, **QUIET))


def test_ctrl_c_in_a_step_waits_for_its_end_and_saves(tmp_path):
    model = pressed_in(23, seeded(Denoiser))
    with pytest.raises(KeyboardInterrupt, match=r"after step 23 of 40; .* still holds step 23"):
        fit(model, (examples(),), CONFIG, out=tmp_path, **QUIET)
    assert checkpoint.info(tmp_path)["step"] == 23
    assert os.listdir(tmp_path) == [NAME]
    assert not model.training
    kept = checkpoint.load(tmp_path, model=Denoiser())
    assert digest(model) == digest(kept)  # what training is for so far: the average
    assert resumed_like_the_whole(tmp_path)


def test_a_second_ctrl_c_drops_the_step(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(pressed_in(23, seeded(Denoiser), times=2), (examples(),), CONFIG, out=tmp_path, **QUIET)
    assert checkpoint.info(tmp_path)["step"] == 20
    assert os.listdir(tmp_path) == [NAME]


def test_ctrl_c_between_two_steps_saves(tmp_path):
    with pytest.raises(KeyboardInterrupt, match="after step 13 of 40"):
        fit(
            seeded(Denoiser), (examples(),), CONFIG, out=tmp_path, observers=[press_at(13)], **QUIET
        )
    with pytest.raises(KeyboardInterrupt, match="after step 17 of 40"):
        fit(
            seeded(Denoiser),
            (examples(),),
            CONFIG,
            out=tmp_path,
            resume=True,
            observers=[press_at(17, times=2)],  # raised inside the observer
            **QUIET,
        )
    assert resumed_like_the_whole(tmp_path)


def test_ctrl_c_while_a_batch_is_read_saves(tmp_path):
    batches = list(examples(96).split(8))
    with pytest.raises(KeyboardInterrupt, match="after step 6 of 40"):
        fit(seeded(Denoiser), Pressing(batches), CONFIG, out=tmp_path, **QUIET)
    assert resumed_like_the_whole(tmp_path, batches)


def test_ctrl_c_without_a_folder_leaves_the_model_as_good_as_it_is():
    config = replace(CONFIG, schedule="constant")
    model, short = seeded(Denoiser), seeded(Denoiser)
    with pytest.raises(KeyboardInterrupt, match=r"after step 13 of 40$"):
        fit(model, (examples(),), config, observers=[press_at(13)], **QUIET)
    fit(short, (examples(),), replace(config, steps=13), **QUIET)
    assert digest(model) == digest(short)
    assert not model.training


@pytest.mark.parametrize("where", ["observer", "batches"])
def test_what_fails_between_two_steps_loses_none_of_them(tmp_path, where):
    def observer(step, model):
        torch.rand(3)
        if step == 13 and where == "observer":
            raise RuntimeError("no such figure")

    class Broken(list):
        def __iter__(self):
            yield from list(super().__iter__())[:13]
            raise RuntimeError("no such figure")

    batches = list(examples(320).split(16))
    data = Broken(batches) if where == "batches" else batches
    with pytest.raises(RuntimeError, match="no such figure"):
        fit(seeded(Denoiser), data, CONFIG, out=tmp_path, observers=[observer], **QUIET)
    assert checkpoint.info(tmp_path)["step"] == 13
    assert resumed_like_the_whole(tmp_path, batches)


def test_nan_is_not_saved_on_ctrl_c(tmp_path):
    def press(step, model):
        if step == 10:
            model.net[0].weight.data.fill_(math.nan)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(FloatingPointError, match=r"by step 10; .* still holds step 8"):
        fit(seeded(Denoiser), (examples(),), CONFIG, out=tmp_path, observers=[press], **QUIET)
    assert checkpoint.info(tmp_path)["step"] == 8


# Crashes and several processes


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


def free_port():
    """A port that nobody uses; torch 2.4 does not look for one itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_two_processes_agree_with_each_other_and_with_one(tmp_path):
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    launcher += ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    launcher += ["--dynamo_backend", "no", "--main_process_port", free_port()]
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
