"""The command line: what a student types, and what is answered to mistakes."""

import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import gentext
from gentext import checkpoint, data, metrics, recipes, zoo
from gentext.__main__ import app
from gentext.train import fit
from gentext.vae import VAE

COMMANDS = (["list"], ["train"], ["sample"], ["evaluate"], ["data", "list"], ["data", "fetch"])


def run(*arguments):
    """The result of ``gentext arguments``, its text without colours and line breaks."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], prog_name="gentext")
    result.text = " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", "", result.output).split())
    return result


def tiny(chosen=None, *, full_data=False):
    """A tiny VAE on a few digits."""
    digits = data.load("digits").without_labels()
    model = VAE(shape=(1, 8, 8), latent=2, hidden=8, likelihood="bernoulli")
    return model, digits, recipes._config(chosen, 30, 60)


@pytest.fixture(autouse=True)
def small_recipe(monkeypatch, tmp_path):
    """One quick recipe more, an empty zoo, and an empty current folder."""
    monkeypatch.setitem(recipes.RECIPES, "tiny", tiny)
    monkeypatch.setattr(zoo, "FOLDER", tmp_path / "zoo")
    (tmp_path / "zoo").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def trained():
    torch.manual_seed(99)  # which must not matter
    assert run("train", "tiny", "--steps", 20, "--out", "runs/first").exit_code == 0
    return "runs/first"


# Help


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_an_example(command):
    shown = run(*command, "--help")
    assert shown.exit_code == 0
    assert f"Example: gentext {' '.join(command)}" in shown.text


def test_the_examples_name_what_there_is():
    """An example that a student copies must not fail for its spelling."""
    for command in COMMANDS:
        text = run(*command, "--help").text
        example = re.search(r"Example: gentext (.*?)( Arguments| Options|$)", text)[1]
        options = [word for word in example.split() if word.startswith("--")]
        assert all(text.count(f"{option} ") == 2 for option in options)
        names = [word for word in example.split() if re.fullmatch(r"\w+_\w+|\w+-mnist", word)]
        assert {*names} <= {*recipes.RECIPES, *data.names()}


def test_help_and_version_do_not_load_pytorch():
    for option in ("--help", "--version"):
        code = f"""
import sys
from gentext.__main__ import app
try:
    app([{option!r}], prog_name="gentext")
finally:
    print("torch" in sys.modules)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == "False", done.stderr
    assert run("--version").text == f"gentext {gentext.__version__}"


def test_python_m_gentext_works():
    done = subprocess.run(
        [sys.executable, "-m", "gentext", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"gentext {gentext.__version__}"


# Lists


def test_list_shows_every_recipe_in_a_line(tmp_path):
    lines = run("list").output.splitlines()
    for name in recipes.RECIPES:
        assert sum(line.split()[:1] == [name] for line in lines) == 1
    assert "none yet" in lines[-1]
    checkpoint.save(tmp_path / "zoo" / "tiny.safetensors", tiny()[0])
    (tmp_path / "zoo" / "tiny.json").write_text('{"recipe": "tiny", "metrics": {"elbo": -12.5}}')
    assert run("list").output.splitlines()[-1].split() == ["tiny", "elbo", "-12.5"]


def test_data_list_shows_every_data_set_in_a_line():
    lines = run("data", "list").output.splitlines()
    assert [line.split(":")[0] for line in lines] == list(data.names())


def test_data_fetch_says_where_the_data_are(monkeypatch, tmp_path):
    monkeypatch.setattr(data, "fetch", lambda name, *, root: (root or tmp_path) / name)
    assert run("data", "fetch", "mnist").text == f"mnist is in {tmp_path / 'mnist'}"
    elsewhere = run("data", "fetch", "mnist", "--root", str(tmp_path / "mine")).text
    assert elsewhere == f"mnist is in {tmp_path / 'mine' / 'mnist'}"


# Train, sample, evaluate


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


@pytest.mark.parametrize(("budget", "steps"), [("quick", 30), ("full", 60)])
def test_the_budget_sets_the_steps(budget, steps):
    assert f"{steps} steps in" in run("train", "tiny", "--budget", budget).text


def test_train_resumes_when_asked_and_overwrites_nothing(trained):
    again = run("train", "tiny", "--steps", 20, "--out", trained)
    assert again.exit_code == 2
    assert "already holds a checkpoint; resume it (resume=True, --resume)" in again.text
    assert run("train", "tiny", "--steps", 20, "--out", trained, "--resume").exit_code == 0
    other = run("train", "tiny", "--steps", 20, "--out", trained, "--resume", "--seed", 1)
    assert other.exit_code == 2
    assert "seed was 0 and is now 1" in other.text


def test_sample_draws_a_picture_that_the_seed_decides(trained):
    pictures = []
    for place, options in enumerate([(), (), ("--seed", 1), ("--mean",)]):
        shown = run(
            *("sample", "tiny", "--checkpoint", trained, "--n", 6, "--out", f"{place}.png"),
            *options,
        )
        assert shown.text == f"saved {place}.png"
        pictures.append(Image.open(f"{place}.png").tobytes())
    assert pictures[0] == pictures[1]
    assert len(set(pictures)) == 3


def test_evaluate_prints_the_metrics_with_units(trained):
    shown = run(
        "evaluate", "tiny", "--checkpoint", f"{trained}/checkpoint.safetensors", "--limit", 50
    )
    assert shown.exit_code == 0
    model = checkpoint.load(f"{trained}/checkpoint.safetensors")
    rows = [line.split() for line in shown.output.splitlines()[1:]]
    expected = metrics.evaluate(model, tiny()[1], seed=0, limit=50)
    assert {row[0]: float(row[1]) for row in rows} == pytest.approx(expected, abs=1e-4)
    units = {row[0]: " ".join(row[2:]) for row in rows}
    assert units["elbo"] == "nats per example"
    assert units["elbo_bits_per_dim"] == "bits/dim"
    assert units["n"] == "examples"


def test_the_zoo_is_used_without_a_checkpoint(tmp_path):
    checkpoint.save(tmp_path / "zoo" / "tiny.safetensors", tiny()[0], recipe="tiny")
    assert run("sample", "tiny", "--n", 2).text == "saved grid.png"
    assert run("evaluate", "tiny", "--limit", 20).exit_code == 0


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "gpt_moon"), "unknown recipe 'gpt_moon': choose one of"),
        (("train", "tiny", "--lr", "-1"), "got lr=-1.0; lr must be above 0"),
        (("train", "tiny", "--budget", "huge"), "unknown budget 'huge'"),
        (("train", "tiny", "--precision", "fp8"), "precision must be one of"),
        (("sample", "tiny"), "train it and pass --checkpoint"),
        (("sample", "tiny", "--checkpoint", "no"), "there is no checkpoint no"),
        (("evaluate", "gpt_moon"), "no trained weights of 'gpt_moon'"),
        (("data", "fetch", "cats"), "cats"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_exit_code_2(arguments, message):
    shown = run(*arguments)
    assert shown.exit_code == 2
    assert message in shown.stderr
    assert shown.stderr.startswith("Error: ")
    assert shown.stderr.count("\n") == 1
    assert "Traceback" not in shown.output


def test_a_checkpoint_of_another_recipe_is_not_taken_for_this_one(trained):
    shown = run("sample", "vae_digits", "--checkpoint", trained)
    assert shown.exit_code == 2
    assert "was trained as 'tiny', not 'vae_digits'" in shown.stderr


def test_a_model_that_cannot_draw_says_so(tmp_path, monkeypatch):
    run("train", "autoencoder_digits", "--steps", 2, "--out", "ae")
    shown = run("sample", "autoencoder_digits", "--checkpoint", "ae")
    assert shown.exit_code == 2
    assert "a Autoencoder cannot draw samples" in shown.stderr


def test_other_errors_give_exit_code_1_and_a_traceback_only_for_debugging(monkeypatch):
    def broken(*_, **__):
        raise FloatingPointError("the loss became NaN")

    monkeypatch.setitem(recipes.RECIPES, "broken", broken)
    shown = run("train", "broken")
    assert (shown.exit_code, shown.stderr) == (1, "Error: the loss became NaN\n")
    monkeypatch.setenv("GENTEXT_DEBUG", "1")
    shown = run("train", "broken")
    assert isinstance(shown.exception, FloatingPointError)


def test_an_interrupted_training_says_how_to_go_on(monkeypatch):
    def interrupted(self, *_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(VAE, "loss", interrupted)
        shown = run("train", "tiny", "--out", "runs/cut")
    assert shown.exit_code == 130
    assert "with --resume it goes on" in shown.stderr
    assert run("train", "tiny", "--out", "runs/cut", "--resume").exit_code == 0


def test_errors_in_a_real_process_are_red_only_on_a_terminal():
    environment = {k: v for k, v in os.environ.items() if k != "GENTEXT_DEBUG"}
    done = subprocess.run(
        [sys.executable, "-m", "gentext", "train", "gpt_moon"],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("Error: unknown recipe 'gpt_moon'")
    assert done.stderr.count("\n") == 1
