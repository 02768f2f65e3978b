"""``gentext train``: the same as ``fit`` on the recipe."""

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


def test_an_interrupted_training_says_how_to_go_on(monkeypatch):
    def interrupted(self, *_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(VAE, "loss", interrupted)
        shown = run("train", "tiny", "--out", "runs/cut")
    assert shown.exit_code == 130
    assert "with --resume it goes on" in shown.stderr
    assert run("train", "tiny", "--out", "runs/cut", "--resume").exit_code == 0
