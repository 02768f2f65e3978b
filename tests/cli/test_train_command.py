"""``gentext train``: the same as ``fit`` on the recipe."""

import itertools
import os
import signal
from dataclasses import replace

import pytest
import torch
from command_line import run, tiny

from gentext import checkpoint
from gentext.latent.vae import VAE
from gentext.training.train import fit


def test_train_is_fit_on_the_recipe(trained):
    torch.manual_seed(0)
    model, digits, config = tiny()
    fit(model, digits, replace(config, steps=20, warmup=4), progress=False)
    saved = checkpoint.load(f"{trained}/checkpoint.safetensors")
    for p, q in zip(saved.parameters(), model.parameters(), strict=True):
        assert torch.equal(p, q)
    assert checkpoint.info(f"{trained}/checkpoint.safetensors")["recipe"] == "tiny"


def test_train_takes_its_options():
    shown = run(
        *("train", "tiny", "--steps", 6, "--batch-size", 9, "--lr", 0.05, "--seed", 4),
        *("--precision", "bf16", "--budget", "full"),
    )
    assert "6 steps in" in shown.text
    assert "saved runs/tiny/checkpoint.safetensors" in shown.text
    header, _ = checkpoint.read("runs/tiny/checkpoint.safetensors")
    expected = {
        "steps": 6,
        "batch_size": 9,
        "lr": 0.05,
        "seed": 4,
        "precision": "bf16",
        "warmup": 1,
    }
    assert header["training"]["config"].items() >= {**expected, "warmup": 1}.items()


def test_it_says_on_which_data_it_trains():
    _, digits, _ = tiny()
    shown = run("train", "tiny", "--steps", 1)
    assert shown.stderr.splitlines()[0] == f"training on digits ({digits.source}), 1257 examples"


@pytest.mark.parametrize(("budget", "steps"), [("quick", 30), ("full", 60)])
def test_the_budget_sets_the_steps(budget, steps):
    assert f"{steps} steps in" in run("train", "tiny", "--budget", budget).text


def test_train_resumes_when_asked_and_overwrites_nothing(trained):
    again = run("train", "tiny", "--steps", 20, "--out", trained)
    assert again.exit_code == 2
    assert "already holds a checkpoint; resume it (--resume)" in again.text
    assert run("train", "tiny", "--steps", 20, "--out", trained, "--resume").exit_code == 0
    other = run("train", "tiny", "--steps", 20, "--out", trained, "--resume", "--seed", 1)
    assert other.exit_code == 2
    assert "seed was 0 and is now 1" in other.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_is_saved_and_says_how_to_go_on(monkeypatch, number):
    before, answer = VAE.loss, signal.getsignal(signal.SIGTERM)
    calls = itertools.count(1)

    def interrupted(self, *batch):
        if next(calls) == 7:
            os.kill(os.getpid(), number)
        return before(self, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(VAE, "loss", interrupted)
        shown = run("train", "tiny", "--out", "runs/cut", "--steps", 20, "--seed", 4)
    assert shown.exit_code == 130
    assert "runs/cut/checkpoint.safetensors holds step 7: with --resume it goes on" in shown.text
    assert signal.getsignal(signal.SIGTERM) is answer
    assert "20 steps in" in run("train", "tiny", "--out", "runs/cut", "--resume").text
    assert run("train", "tiny", "--out", "runs/whole", "--steps", 20, "--seed", 4).exit_code == 0
    cut, whole = (checkpoint.load(f"runs/{folder}") for folder in ("cut", "whole"))
    for p, q in zip(cut.parameters(), whole.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_training_broken_off_in_a_step_says_from_where_it_goes_on(monkeypatch):
    def broken(self, *_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(VAE, "loss", broken)
        shown = run("train", "tiny", "--out", "runs/cut")
    assert shown.exit_code == 130
    assert "holds step 0: with --resume it goes on from there" in shown.text


def test_a_training_that_has_ended_is_made_longer(trained):
    more = run("train", "tiny", "--more", 10, "--out", trained)
    assert more.exit_code == 0
    assert "30 steps in" in more.text
    model, digits, config = tiny()
    torch.manual_seed(0)
    model = tiny()[0]
    config = replace(config, steps=20, warmup=4)
    fit(model, digits, config, out="runs/same", progress=False)
    fit(model, digits, replace(config, steps=30), out="runs/same", resume=True, progress=False)
    saved = checkpoint.load(trained)
    for p, q in zip(saved.parameters(), model.parameters(), strict=True):
        assert torch.equal(p, q)
    both = run("train", "tiny", "--more", 10, "--steps", 40, "--out", trained)
    assert both.exit_code == 2
    assert "give --steps, all there are to be, or --more" in both.text
    other = run("train", "tiny", "--more", 10, "--lr", 0.5, "--out", trained)
    assert other.exit_code == 2
    assert "and is now 0.5" in other.text
    nothing = run("train", "tiny", "--more", 10, "--out", "runs/none")
    assert nothing.exit_code == 2
    assert "there is no checkpoint" in nothing.text


def test_the_home_folder_is_understood(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "own"))
    shown = run("train", "tiny", "--steps", 2, "--out", "~/run")
    assert f"saved {tmp_path}/own/run/checkpoint.safetensors" in shown.text
    assert checkpoint.info("~/run")["step"] == 2
