"""The program: its help, its version, and what it answers to mistakes."""

import io
import os
import re
import subprocess
import sys

import pytest
import typer
from command_line import COMMANDS, run, tiny_text
from typer.testing import CliRunner

import gentext
from gentext import checkpoint, data, recipes
from gentext.cli import app, main
from gentext.cli.commands import _in_options


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
        (("train", "gpt_moon"), "unknown recipe 'gpt_moon': see `gentext list` for all"),
        (("train", "tiny", "--budget", "huge"), "unknown budget 'huge'"),
        (("train", "tiny", "--precision", "fp8"), "'fp8'"),
        (("sample", "tiny"), "train it by `gentext train tiny` and give --checkpoint runs/tiny"),
        (("sample", "tiny", "--checkpoint", "no"), "there is no checkpoint no"),
        (("evaluate", "gpt_moon"), "unknown experiment 'gpt_moon': see `gentext list` for all"),
        (("train", "tiny_txt"), "did you mean 'tiny_text' or"),
        (("sample", "shakespeare"), "did you mean 'gpt_shakespeare'"),
        (("smaple",), "No such command 'smaple'"),
        (("sample",), "Missing argument 'NAME' (see `gentext sample --help`)"),
        (("sample", "tiny", "--colour", "red"), "No such option: --colour"),
        (
            ("train", "vae_digits", "--full-data"),
            "no more data for vae_digits than come with gentext; leave out --full-data",
        ),
        (("finetune", "tiny", "--from", "x"), "there is no checkpoint x, and no weights of that"),
        (("finetune", "digits"), "Missing option '--from' (see `gentext finetune --help`)"),
        (("data", "fetch", "cats"), "unknown data set 'cats': "),
        (("data", "fetch", "tang"), "'tang' comes whole with gentext"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_exit_code_2(arguments, message):
    shown = run(*arguments)
    assert shown.exit_code == 2
    assert message in shown.stderr
    assert shown.stderr.startswith("Error: ")
    assert shown.stderr.count("\n") == 1
    assert "Traceback" not in shown.output


@pytest.mark.parametrize(
    ("command", "option", "values"),
    [
        ("train", "--steps", (0, -1, 1.5)),
        ("train", "--batch-size", (0, -1)),
        ("train", "--lr", (0, -1, "nan", "inf")),
        ("train", "--seed", (-1, 2**63)),
        ("sample", "--n", (0, -1, "many")),
        ("sample", "--length", (0,)),
        ("sample", "--temperature", (-1, "nan", "inf")),
        ("sample", "--top-k", (0, -1)),
        ("sample", "--top-p", (0, 1.5, "nan")),
        ("sample", "--beam", (0,)),
        ("sample", "--steps", (0,)),
        ("sample", "--guidance", (-1, "nan", "inf")),
        ("sample", "--seed", (-1,)),
        ("finetune", "--labels-per-class", (0, -1)),
        ("finetune", "--steps", (0,)),
        ("finetune", "--batch-size", (0,)),
        ("finetune", "--decay", (0, 1.5, "nan")),
        ("finetune", "--pull", (0, -1, "inf")),
        ("finetune", "--rank", (0,)),
        ("finetune", "--patience", (-1,)),
        ("evaluate", "--limit", (0, 1)),
        ("evaluate", "--k", (-1,)),
    ],
)
def test_a_number_out_of_range_is_refused_by_the_name_of_its_option(command, option, values):
    for value in values:
        shown = run(command, "tiny", option, value)
        assert shown.exit_code == 2, value
        assert shown.stderr.startswith(f"Error: Invalid value for '{option}': "), value
        assert shown.stderr.count("\n") == 1, value


def test_arguments_are_said_as_options():
    """Also those of the library, which a reader of its messages cannot give."""
    command = typer.main.get_command(app).commands["sample"]
    said = _in_options("got top_k=0, mean=True, beam=2; see temperature and width=3", command)
    assert said == "got --top-k 0, --mean, --beam 2; see temperature and width=3"
    assert _in_options("got top_k=0", None) == "got top_k=0"


@pytest.fixture
def console(monkeypatch):
    """What the program writes on a console of an encoding, and its exit code."""

    def run_main(encoding, *arguments):
        streams = {name: io.TextIOWrapper(io.BytesIO(), encoding) for name in ("stdout", "stderr")}
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["gentext", *map(str, arguments)])
            for name, stream in streams.items():
                patch.setattr(sys, name, stream)
            with pytest.raises(SystemExit) as done:
                main()
        written = []
        for stream in streams.values():
            stream.flush()
            written.append(stream.buffer.getvalue().decode(encoding))
        return done.value.code, *written

    return run_main


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "gb18030", "utf-8"])
def test_what_a_console_has_no_letters_for_is_not_lost(console, encoding, tmp_path):
    spring = "春".encode(encoding, "backslashreplace").decode(encoding)
    code, shown, _ = console(encoding, "sample", "--help")
    assert code == 0
    assert f"--prompt {spring} --n 4" in shown
    model, dataset, _ = tiny_text()
    file = checkpoint.save(tmp_path / "t.safetensors", model, tokenizer=dataset.tokenizer)
    asked = ("sample", "tiny_text", "--checkpoint", file, "--length", 1, "--prompt")
    code, shown, _ = console(encoding, *asked, "春")
    assert code == 0
    assert shown.startswith(spring)
    code, _, refused = console(encoding, *asked, "龍")
    dragon = "龍".encode(encoding, "backslashreplace").decode(encoding)
    assert code == 2
    assert f"character '{dragon}' at place 0" in refused


def test_a_reader_that_has_seen_enough_is_no_error():
    """As in ``gentext list | head -1``."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "gentext", "list"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.stderr == ""


def test_errors_are_without_colour_where_none_is_wanted(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = CliRunner().invoke(app, ["train", "gpt_moon"], color=True)
    assert coloured.stderr.startswith("\x1b[31mError: ")
    monkeypatch.setenv("NO_COLOR", "1")
    plain = CliRunner().invoke(app, ["train", "gpt_moon"], color=True)
    assert plain.stderr.startswith("Error: ")


def test_data_that_are_not_there_can_be_fetched(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("the full set is not on this machine: download it")

    monkeypatch.setitem(recipes.RECIPES, "missing", missing)
    shown = run("train", "missing")
    assert (shown.exit_code, shown.stderr.count("\n")) == (2, 1)


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


def test_a_group_of_commands_alone_shows_its_help_and_no_error():
    shown = run("data")
    assert shown.exit_code == 2
    assert "fetch" in shown.text
    assert "Error" not in shown.text
