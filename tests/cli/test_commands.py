"""The program: its help, its version, and what it answers to mistakes."""

import os
import re
import subprocess
import sys

import pytest
from command_line import COMMANDS, run

import gentext
from gentext import data, recipes


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
        assert all(text.count(f"{option} ") >= 2 for option in options)
        names = [word for word in example.split() if re.fullmatch(r"\w+_\w+|\w+-mnist", word)]
        assert {*names} <= {*recipes.RECIPES, *data.names()}


def test_help_and_version_do_not_load_pytorch():
    for given in (["--help"], ["--version"], *([*command, "--help"] for command in COMMANDS)):
        code = f"""
import sys
from gentext.cli import app
try:
    app({given!r}, prog_name="gentext")
finally:
    print("torch" in sys.modules, "numpy" in sys.modules)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == "False False", done.stderr
    assert run("--version").text == f"gentext {gentext.__version__}"


def test_python_m_gentext_works():
    done = subprocess.run(
        [sys.executable, "-m", "gentext", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"gentext {gentext.__version__}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "gpt_moon"), "unknown recipe 'gpt_moon': choose one of"),
        (("train", "tiny", "--lr", "-1"), "got lr=-1.0; lr must be above 0"),
        (("train", "tiny", "--budget", "huge"), "unknown budget 'huge'"),
        (("train", "tiny", "--precision", "fp8"), "'fp8'"),
        (("sample", "tiny"), "train it and pass --checkpoint"),
        (("sample", "tiny", "--checkpoint", "no"), "there is no checkpoint no"),
        (("evaluate", "gpt_moon"), "no trained weights of 'gpt_moon'"),
        (("train", "tiny_txt"), "did you mean 'tiny_text'?"),
        (
            ("train", "vae_digits", "--full-data"),
            "no more data for vae_digits than come with gentext; leave out full_data (--full-data)",
        ),
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


def test_other_errors_give_exit_code_1_and_a_traceback_only_for_debugging(monkeypatch):
    def broken(*_, **__):
        raise FloatingPointError("the loss became NaN")

    monkeypatch.setitem(recipes.RECIPES, "broken", broken)
    shown = run("train", "broken")
    assert (shown.exit_code, shown.stderr) == (1, "Error: the loss became NaN\n")
    monkeypatch.setenv("GENTEXT_DEBUG", "1")
    shown = run("train", "broken")
    assert isinstance(shown.exception, FloatingPointError)


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
