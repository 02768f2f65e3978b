"""An option means the same in every command."""

from __future__ import annotations

import inspect
from typing import get_args, get_type_hints

import typer
from command_line import run
from typer.models import ParameterInfo

from gentext.cli import options
from gentext.cli.data_command import data_fetch
from gentext.cli.evaluate_command import evaluate
from gentext.cli.finetune_command import finetune
from gentext.cli.sample_command import sample
from gentext.cli.train_command import train

COMMANDS = (train, finetune, sample, evaluate, data_fetch)
SHARED = {"Name", "Checkpoint", "Seed", "FullData", "LearningRate"}


def declared():
    """The options by name."""
    return {name: value for name, value in vars(options).items() if typer_of(value)}


def typer_of(value):
    """What typer is told of an option, None for anything else."""
    told = [part for part in get_args(value)[1:] if isinstance(part, ParameterInfo)]
    return told[0] if told else None


def test_commands_take_what_is_declared_here_and_nothing_else():
    used = [
        name
        for command in COMMANDS
        for hint in list(get_type_hints(command, include_extras=True).values())[:-1]
        for name, value in declared().items()
        if value is hint or value == hint
    ]
    parameters = sum(len(inspect.signature(command).parameters) for command in COMMANDS)
    assert len(used) == parameters
    assert set(used) == set(declared())
    assert {name for name in used if used.count(name) > 1} == SHARED


def test_every_option_is_explained_in_one_sentence():
    for name, value in declared().items():
        told = typer_of(value)
        assert told.help, name
        assert told.help[0].isupper(), name
        assert "\n" not in told.help, name


def test_shared_options_read_alike_in_every_help():
    commands = ("train", "finetune", "sample", "evaluate")
    shown = [run(command, "--help").text for command in commands]
    assert all(typer_of(options.Seed).help in text for text in shown)
    assert sum(typer_of(options.Name).help in text for text in shown) == 3
    assert sum(typer_of(options.FullData).help in text for text in shown) == 3
    assert sum(typer_of(options.LearningRate).help in text for text in shown) == 2


def test_options_that_are_typer_s_are_of_typer():
    kinds = (typer.models.OptionInfo, typer.models.ArgumentInfo)
    assert all(isinstance(typer_of(value), kinds) for value in declared().values())


def test_a_tilde_is_the_home_of_the_reader(monkeypatch, tmp_path):
    """Also in ``--out=~/runs``, where no shell replaces it."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    assert run("train", "tiny", "--steps", 1, "--out=~/runs").exit_code == 0
    file = tmp_path / "home" / "runs" / "checkpoint.safetensors"
    assert file.is_file()
    for place in ("~/runs", "~/runs/checkpoint.safetensors"):
        asked = ("sample", "tiny", "--n", 1, f"--checkpoint={place}", "--out=~/pictures/a.png")
        assert run(*asked).exit_code == 0
    assert (tmp_path / "home" / "pictures" / "a.png").is_file()
    refused = run("sample", "tiny", "--checkpoint", "~nobody-of-that-name/runs")
    assert refused.exit_code == 2
    assert "there is no checkpoint ~nobody-of-that-name/runs" in refused.text


def test_a_prompt_of_a_console_that_is_not_utf_8_is_read():
    """Python then keeps the bytes that it cannot read as surrogates."""
    kept = "春".encode().decode("ascii", "surrogateescape")
    read = typer_of(options.Prompt).parser
    assert (read(kept), read("春"), read("a\nb")) == ("春", "春", "a\nb")
