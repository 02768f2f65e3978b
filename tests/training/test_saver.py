"""Trainings that go on from a file: to the same bits, or not at all."""

import errno
import itertools
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from models_to_train import (
    CONFIG,
    QUIET,
    Denoiser,
    Fragile,
    broken_in,
    digest,
    examples,
    interrupted,
    seeded,
    stream,
    unchecked,  # noqa: F401
)

from gentext import checkpoint
from gentext.data import Dataset
from gentext.training.batches import endless_batches, fingerprint, mix
from gentext.training.config import TrainConfig, learning_rate
from gentext.training.processes import Alone
from gentext.training.run import Run, keeping_random_state, seed_generators
from gentext.training.saver import NAME, config_in
from gentext.training.train import fit


@pytest.mark.parametrize("data", [(examples(),), stream()], ids=["memory", "stream"])
def test_a_resumed_training_is_the_uninterrupted_one(tmp_path, data):
    interrupted(23, tmp_path, data)
    model, whole = seeded(Denoiser, 9), seeded(Denoiser)
    history = fit(model, data, CONFIG, out=tmp_path, resume=True, **QUIET)
    expected = fit(whole, data, CONFIG, **QUIET)
    assert digest(model, history) == digest(whole, expected)
    loaded = checkpoint.load(tmp_path / NAME, model=Denoiser())
    assert digest(loaded) == digest(whole)


def test_resuming_a_finished_training_gives_its_result(tmp_path):
    models = [seeded(Denoiser, seed) for seed in (0, 1)]
    histories = [fit(m, (examples(),), CONFIG, out=tmp_path, resume=True, **QUIET) for m in models]
    assert digest(models[0], histories[0]) == digest(models[1], histories[1])


def test_every_state_is_saved_once(tmp_path, monkeypatch):
    steps, write = [], checkpoint.write

    def record(path, tensors, header):
        steps.append(header["step"])
        return write(path, tensors, header)

    monkeypatch.setattr(checkpoint, "write", record)
    fit(seeded(Denoiser), (examples(),), CONFIG, out=tmp_path, **QUIET)
    assert steps == list(range(0, 41, 4))


@pytest.mark.parametrize("precision", ["no", "fp16"])
def test_a_constant_schedule_may_be_prolonged(tmp_path, precision):
    def config(steps, save_every):
        return TrainConfig(steps=steps, save_every=save_every, batch_size=16, precision=precision)

    class Steep(Denoiser):
        """In half precision its first gradients overflow, until the scale has been lowered."""

        def loss(self, x):
            return 256 * super().loss(x)

    results = []
    for folder, stages in (("a", [12, 30]), ("b", [30])):
        for steps in stages:
            model = seeded(Steep)
            history = fit(
                model,
                (examples(),),
                config(steps, steps // 2),
                out=tmp_path / folder,
                resume=True,
                **QUIET,
            )
        results.append(digest(model, history))
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"lr": 0.02}}, "lr was 0.01 and is now 0.02"),
        (
            {"config": {"steps": 80}},
            r"40 and is now 80, .* at step 8\): go on to 40 first",
        ),
        ({"config": {"steps": 30}}, "steps was 40 and is now 30, and a cosine cannot be changed"),
        ({"config": {"ema": None}}, "ema was 0.9 and is now None"),
        ({"data": (examples(101),)}, "data was .*100, 3.* and is now .*101, 3"),
        ({"data": (examples() + 1,)}, "data was"),
        ({"data": stream()}, "data was .* is now .*stream"),
        ({"make": lambda: Denoiser(width=9)}, "width=8, not width=9"),
        ({"make": lambda: Denoiser(noise=0.2)}, "noise=0.1, not noise=0.2"),
        ({"make": lambda: Fragile(at=1, how="loss")}, "holds a Denoiser, not a Fragile"),
    ],
)
def test_resuming_something_else_is_refused(tmp_path, change, message):
    interrupted(10, tmp_path, make=lambda: Denoiser(width=8, noise=0.1))
    before = (tmp_path / NAME).read_bytes()
    settings = {**vars(CONFIG), **change.get("config", {})}
    make, data = change.get("make", Denoiser), change.get("data", (examples(),))
    with pytest.raises(ValueError, match=message):
        fit(seeded(make), data, TrainConfig(**settings), out=tmp_path, resume=True, **QUIET)
    assert (tmp_path / NAME).read_bytes() == before


def test_a_checkpoint_that_lacks_a_setting_is_refused(tmp_path):
    interrupted(10, tmp_path)
    header, tensors = checkpoint.read(tmp_path / NAME)
    del header["training"]["config"]["betas"]
    checkpoint.write(tmp_path / NAME, tensors, header)
    with pytest.raises(ValueError, match=r"betas was None and is now \[0.9, 0.999\]"):
        fit(seeded(Denoiser), (examples(),), CONFIG, out=tmp_path, resume=True, **QUIET)


@pytest.mark.parametrize("interrupted_at", [None, 30])
def test_a_cosine_that_has_ended_begins_anew_for_the_steps_that_are_added(tmp_path, interrupted_at):
    """By hand: every step sets the rate that the two schedules of 20 and 15 steps have."""
    first = replace(CONFIG, steps=20, warmup=3)
    more = replace(first, steps=35)
    fit(seeded(Denoiser), (examples(),), first, out=tmp_path, **QUIET)
    assert config_in(tmp_path) == first
    if interrupted_at:
        model = broken_in(interrupted_at - 20, seeded(Denoiser, 7))
        with pytest.raises(MemoryError):
            fit(model, (examples(),), more, out=tmp_path, resume=True, **QUIET)
    model = seeded(Denoiser, 9)
    history = fit(model, (examples(),), more, out=tmp_path, resume=True, **QUIET)

    run = Run(by_hand := seeded(Denoiser), more, Alone(torch.device("cpu")))
    batches = endless_batches((examples(),), 16, torch.device("cpu"), seed=3)
    rates = [learning_rate(s, first) for s in range(20)]
    rates += [learning_rate(s, replace(first, steps=15)) for s in range(15)]
    with keeping_random_state(torch.device("cpu")), pytest.MonkeyPatch.context() as patch:
        patch.setattr("gentext.training.run.learning_rate", lambda step, *_: rates[step])
        seed_generators(torch.device("cpu"), mix("noise", 3, 0))
        for _ in range(35):
            run.advance(next(batches))
        run.look()
        run.finish()
    assert digest(model, history) == digest(by_hand, run.history)


@pytest.mark.usefixtures("unchecked")
def test_a_training_goes_on_however_numbers_and_folders_are_written(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = TrainConfig(steps=np.int64(6), seed=np.int64(4), lr=np.float64(0.01), batch_size=16)
    fit(seeded(Denoiser), (examples(),), config, out="~/run", **QUIET)
    assert (tmp_path / "run" / NAME).is_file()
    plain = TrainConfig(steps=6, seed=4, lr=0.01, batch_size=16)
    one, two = seeded(Denoiser, 3), seeded(Denoiser)
    history = fit(one, (examples(),), plain, out=tmp_path / "run", resume=True, **QUIET)
    assert digest(one, history) == digest(two, fit(two, (examples(),), plain, **QUIET))


def test_saves_come_by_time_too(tmp_path, monkeypatch):
    steps, write, clock = [], checkpoint.write, itertools.count(0, 20)  # seconds, at every look
    monkeypatch.setattr("gentext.training.saver.time.monotonic", lambda: next(clock))

    def recorded(path, tensors, header):
        steps.append(header["step"])
        return write(path, tensors, header)

    monkeypatch.setattr(checkpoint, "write", recorded)
    config = TrainConfig(steps=20, save_minutes=2.0)
    fit(seeded(Denoiser), (examples(),), config, out=tmp_path, **QUIET)
    assert steps == [0, 7, 14, 20]
    steps.clear()
    config = TrainConfig(steps=20, save_minutes=None)
    fit(seeded(Denoiser), (examples(),), config, out=tmp_path / "other", **QUIET)
    assert steps == [0, 20]


def test_a_state_of_another_device_goes_on(tmp_path):
    """As a GPU would have left it: moments and weights are alike, generators are not."""
    interrupted(23, tmp_path)
    header, tensors = checkpoint.read(tmp_path / NAME)
    header["training"]["device"] = "cuda"
    tensors["training/random/cuda"] = torch.zeros(1, 16, dtype=torch.uint8)
    checkpoint.write(tmp_path / NAME, tensors, header)
    model, whole = seeded(Denoiser, 9), seeded(Denoiser)
    history = fit(model, (examples(),), CONFIG, out=tmp_path, resume=True, **QUIET)
    assert digest(model, history) == digest(whole, fit(whole, (examples(),), CONFIG, **QUIET))
    del tensors["training/random/cpu"]  # and as if this device had not been there
    results = []
    for folder in ("a", "b"):
        checkpoint.write(tmp_path / folder / NAME, tensors, header)
        model = seeded(Denoiser)
        history = fit(model, (examples(),), CONFIG, out=tmp_path / folder, resume=True, **QUIET)
        results.append(digest(model, history))
    assert results[0] == results[1] != digest(whole)


@pytest.mark.parametrize("text", ["folder", "file"])
def test_a_place_that_cannot_be_written_is_named_before_training(tmp_path, text):
    (tmp_path / "file").write_text("mine")
    out = {"file": tmp_path / "file", "folder": tmp_path / "file" / "folder"}[text]
    seen = []
    with pytest.raises(ValueError, match=r"cannot write .*choose a folder in which you may write"):
        fit(seeded(Denoiser), (examples(),), CONFIG, out=out, observers=[lambda *a: seen.append(a)])
    assert seen == []
    assert (tmp_path / "file").read_text() == "mine"


def test_a_disk_that_fills_up_ends_the_training_and_keeps_the_last_save(tmp_path, monkeypatch):
    fsync, calls = os.fsync, itertools.count(1)

    def full(file):
        if next(calls) > 3:
            raise OSError(errno.ENOSPC, "full")
        fsync(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match=r"no space left to write .*; free some"):
        fit(seeded(Denoiser), (examples(),), CONFIG, out=tmp_path, **QUIET)
    assert next(calls) == 5  # tried once
    assert os.listdir(tmp_path) == [NAME]
    assert checkpoint.info(tmp_path)["step"] == 8


def test_weights_are_no_training(tmp_path):
    checkpoint.save(tmp_path / NAME, Denoiser())
    with pytest.raises(ValueError, match="weights only, and no training that could go on"):
        config_in(tmp_path)


def test_steps_cannot_be_lowered_below_what_was_done(tmp_path):
    long, short = (TrainConfig(steps=steps) for steps in (20, 10))
    fit(seeded(Denoiser), (examples(),), long, out=tmp_path, **QUIET)
    with pytest.raises(ValueError, match="at step 20, beyond steps=10"):
        fit(seeded(Denoiser), (examples(),), short, out=tmp_path, resume=True, **QUIET)


def test_an_earlier_training_is_not_overwritten(tmp_path):
    interrupted(10, tmp_path)
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(ValueError, match="already holds a checkpoint; resume it"):
        fit(seeded(Denoiser), (examples(),), CONFIG, out=tmp_path, **QUIET)
    assert (tmp_path / NAME).read_bytes() == before


def test_weights_alone_cannot_be_resumed(tmp_path):
    checkpoint.save(tmp_path / NAME, Denoiser())
    with pytest.raises(ValueError, match="weights only"):
        fit(seeded(Denoiser), (examples(),), CONFIG, out=tmp_path, resume=True, **QUIET)


def test_a_file_says_what_the_data_were_and_keeps_their_fingerprint(tmp_path):
    rows = (examples(),)
    about = {"shape": (3,), "classes": ("odd", "even"), "levels": 4}
    data = Dataset(name="own", train=rows, test=(), **about)
    interrupted(10, tmp_path, data)
    expected = {"name": "own", "shape": [3], "image_shape": None}
    expected |= {"classes": ["odd", "even"], "levels": 4}
    assert checkpoint.info(tmp_path / NAME)["data"] == expected
    header, _ = checkpoint.read(tmp_path / NAME)
    assert header["training"]["data"] == fingerprint(rows)


def test_a_file_from_before_goes_on_though_it_does_not_say_what_the_data_were(tmp_path):
    interrupted(23, tmp_path)
    header, tensors = checkpoint.read(tmp_path / NAME)
    del header["data"]
    checkpoint.write(tmp_path / NAME, tensors, header)
    model, whole = seeded(Denoiser, 9), seeded(Denoiser)
    history = fit(model, (examples(),), CONFIG, out=tmp_path, resume=True, **QUIET)
    assert digest(model, history) == digest(whole, fit(whole, (examples(),), CONFIG, **QUIET))


def test_the_place_of_everything_in_the_file_stays(tmp_path):
    """So that trainings begun by one version go on in the next."""
    interrupted(10, tmp_path)
    header, tensors = checkpoint.read(tmp_path / NAME)
    parameters = [name for name, _ in Denoiser().named_parameters()]
    moments = ("exp_avg", "exp_avg_sq", "step")
    places = {f"training/optimizer/loss/{i}/{m}" for i in range(len(parameters)) for m in moments}
    places |= {f"training/weights/{name}" for name in parameters}
    places |= {"training/losses/loss", "training/random/cpu", *Denoiser().state_dict()}
    assert {place for place in tensors if "random" not in place or "cpu" in place} == places
    assert header["step"] == 8
    kept = {"config", "processes", "device", "data", "scaler", "seconds", "begun"}
    assert header["training"].keys() == kept
    assert header["settings"] == {"width": 8, "noise": 0.1}
