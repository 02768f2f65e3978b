"""The command line: what a student types, and what is answered to mistakes."""

import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import gentext
from gentext import checkpoint, data, metrics, plot, recipes, text, zoo
from gentext.cli import app
from gentext.data import prepared
from gentext.denoising.diffusion import Diffusion
from gentext.denoising.latent_diffusion import LatentDiffusion
from gentext.latent.image_vae import ImageVAE
from gentext.latent.vae import VAE
from gentext.sequences.gpt import GPT
from gentext.sequences.recurrent import RecurrentLM
from gentext.sequences.seq2seq import Seq2Seq
from gentext.tokens.completion import complete
from gentext.tokens.tokenizer import CharTokenizer, rows
from gentext.training.train import fit

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


POEM = "春眠不觉晓，处处闻啼鸟。"


def tiny_text(chosen=None, *, full_data=False):
    """A tiny network that knows one poem."""
    corpus = text.Corpus(
        name="poem", train=(POEM,) * 8, validation=(POEM,), test=(POEM,) * 3, notes={}, licence="",
        source="",
    )  # fmt: skip
    dataset = text.padded(corpus, CharTokenizer.fit([POEM]), 16)
    model = RecurrentLM(vocab_size=dataset.tokenizer.size, hidden=32, pad=0)
    return model, dataset, replace(recipes._config(chosen, 120, 120), lr=0.02)


def tiny_translator(chosen=None, *, full_data=False):
    """A tiny network that knows the way from a to 春."""
    corpus = text.Corpus(
        name="two", train=(("a", "春"), ("b", "夏")) * 4, validation=(("a", "春"),),
        test=(("a", "春"), ("b", "夏")), notes={}, licence="", source="",
    )  # fmt: skip
    dataset = text.pairs(corpus, CharTokenizer("ab春夏"), 4)
    model = Seq2Seq(vocab_size=8, net="gru", width=16, layers=1, dropout=0.0, context=4)
    return model, dataset, replace(recipes._config(chosen, 100, 100), lr=0.02)


def tiny_painter():
    """A network that has seen no emoji, and their names."""
    dataset = prepared.captions(language="en")
    words = {"vocab_size": dataset.tokenizer.size, "context": prepared.PROMPT}
    prior = Diffusion("dit", shape=(4, 8, 8), levels=None, width=16, layers=1, **words)
    coder = ImageVAE(shape=(3, 32, 32), hidden=4)
    return LatentDiffusion(autoencoder=coder, diffusion=prior, scale=1.0).eval(), dataset


@pytest.fixture(autouse=True)
def small_recipe(monkeypatch, tmp_path):
    """Quick recipes more, an empty zoo, and an empty current folder."""
    monkeypatch.setitem(recipes.RECIPES, "tiny", tiny)
    monkeypatch.setitem(recipes.RECIPES, "tiny_text", tiny_text)
    monkeypatch.setitem(recipes.RECIPES, "tiny_translator", tiny_translator)
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
        assert all(text.count(f"{option} ") >= 2 for option in options)
        names = [word for word in example.split() if re.fullmatch(r"\w+_\w+|\w+-mnist", word)]
        assert {*names} <= {*recipes.RECIPES, *data.names()}


def test_help_and_version_do_not_load_pytorch():
    for option in ("--help", "--version"):
        code = f"""
import sys
from gentext.cli import app
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
    assert [line.split(":")[0] for line in lines] == [*data.names(), *text.names()]


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
        (("train", "tiny", "--precision", "fp8"), "unknown precision 'fp8'"),
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


# Texts


@pytest.fixture
def poet():
    assert run("train", "tiny_text").exit_code == 0
    return ("tiny_text", "--checkpoint", "runs/tiny_text")


def test_a_model_of_texts_writes_on_from_a_prompt(poet, tmp_path):
    written = run("sample", *poet, "--prompt", "春", "--temperature", 0)
    assert written.exit_code == 0, written.text
    assert written.text == POEM
    assert run("sample", *poet, "--temperature", 0).text == POEM  # nothing to begin with
    assert (
        run("sample", *poet, "--prompt", "春眠", "--length", 3, "--top-k", 1).text == "春眠不觉晓"
    )
    assert run("sample", *poet, "--n", 3, "--top-p", 0.01).text == " ".join([POEM] * 3)
    drawn = [run("sample", *poet, "--temperature", 9, "--seed", s).text for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    saved = run("sample", *poet, "--n", 2, "--temperature", 0, "--out", "poems.txt")
    assert saved.text == "saved poems.txt"
    assert (tmp_path / "poems.txt").read_text("utf-8") == f"{POEM}\n\n{POEM}\n"


def test_texts_are_measured_in_their_units(poet):
    measured = run("evaluate", *poet)
    assert measured.exit_code == 0, measured.text
    bits = float(re.search(r"bits_per_char ([\d.]+) bits/character", measured.text)[1])
    perplexity = float(re.search(r"perplexity ([\d.]+) tokens", measured.text)[1])
    # 13 tokens, the end among them, for 12 characters
    assert math.isclose(bits, math.log2(perplexity) * 13 / 12, abs_tol=2e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--prompt", "春x"), "'x' at place 1"),
        (("--temperature", -1), "temperature=-1.0"),
        (("--top-p", 0), "top_p=0.0"),
        (("--top-p", 1.5), "top_p=1.5"),
        (("--top-k", 0), "top_k=0"),
    ],
)
def test_what_cannot_be_written_is_said_in_one_line(poet, options, message):
    refused = run("sample", *poet, *options)
    assert refused.exit_code == 2
    assert refused.text.startswith("Error: ")
    assert message in refused.text


def test_a_vocabulary_of_another_size_is_refused(poet, tmp_path):
    model = RecurrentLM(vocab_size=99, hidden=4)
    wrong = checkpoint.save(
        tmp_path / "wrong.safetensors", model, tokenizer=CharTokenizer(POEM[:5])
    )
    refused = run("sample", "tiny_text", "--checkpoint", wrong)
    assert refused.exit_code == 2
    assert "knows 9 tokens, but the model 99" in refused.text


def test_a_translator_translates(tmp_path):
    assert run("train", "tiny_translator").exit_code == 0
    model = ("tiny_translator", "--checkpoint", "runs/tiny_translator")
    for beams in (1, 3):
        found = [run("sample", *model, "--prompt", x, "--beam", beams).text for x in "ab"]
        assert found == ["春", "夏"]
    assert "exact 1.0000 share" in run("evaluate", *model).text
    assert "nothing to translate" in run("sample", *model).text
    assert run("sample", *model, "--prompt", "x").exit_code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--prompt", "abab"), "5 tokens with its end, but this model reads at most 4"),
        (("--prompt", "a", "--length", 5), "length must be 1 to 4"),
        (("--prompt", "a", "--n", 2), "makes translations and takes no --n"),
        (("--prompt", "a", "--temperature", 0.5), "takes no --temperature"),
        (("--prompt", ""), "nothing to translate"),
    ],
)
def test_what_cannot_be_translated_is_said_in_one_line(tmp_path, options, message):
    model, dataset, _ = tiny_translator()
    file = checkpoint.save(tmp_path / "t.safetensors", model, tokenizer=dataset.tokenizer)
    refused = run("sample", "tiny_translator", "--checkpoint", file, *options)
    assert refused.exit_code == 2
    assert message in refused.text
    assert refused.stderr.count("\n") == 1


def test_a_prompt_longer_than_the_context_is_refused(tmp_path):
    _, dataset, _ = tiny_text()
    model = GPT(vocab_size=dataset.tokenizer.size, context=8, layers=1, heads=1, width=8)
    file = checkpoint.save(tmp_path / "g.safetensors", model, tokenizer=dataset.tokenizer)
    refused = run("sample", "tiny_text", "--checkpoint", file, "--prompt", POEM[:8])
    assert refused.exit_code == 2
    assert "got 8 tokens, but this model reads at most 7" in refused.text
    written = run("sample", "tiny_text", "--checkpoint", file, "--prompt", POEM[:7])
    assert written.exit_code == 0
    assert len(written.text) <= 8


def test_texts_of_another_tokenizer_are_not_measured(tmp_path):
    model, dataset, _ = tiny_text()
    other = CharTokenizer(dataset.tokenizer.alphabet[::-1])
    file = checkpoint.save(tmp_path / "o.safetensors", model, tokenizer=other)
    refused = run("evaluate", "tiny_text", "--checkpoint", file)
    assert refused.exit_code == 2
    assert "another tokenizer" in refused.text


@pytest.mark.parametrize(
    "options", [("--prompt", "cat"), ("--temperature", 0.5), ("--beam", 2), ("--length", 9)]
)
def test_images_take_no_options_of_texts(trained, options):
    refused = run("sample", "tiny", "--checkpoint", trained, *options)
    assert refused.exit_code == 2
    assert f"tiny makes images and takes no {options[0]}; leave it out" in refused.text


def test_what_has_no_expected_image_takes_no_mean(tmp_path):
    file = checkpoint.save(tmp_path / "p.safetensors", recipes.pixelcnn_digits("quick")[0])
    refused = run("sample", "pixelcnn_digits", "--checkpoint", file, "--mean")
    assert refused.exit_code == 2
    assert "takes no --mean" in refused.text


def test_a_model_that_fills_gaps_draws_nothing(tmp_path):
    model, dataset, _ = recipes.bert_poems("quick")
    file = checkpoint.save(tmp_path / "b.safetensors", model, tokenizer=dataset.tokenizer)
    refused = run("sample", "bert_poems", "--checkpoint", file, "--prompt", "春")
    assert refused.exit_code == 2
    assert "a BERT cannot draw samples" in refused.text


def tiny_pixels(chosen=None, *, full_data=False):
    """A network that knows nothing of digits."""
    model = RecurrentLM(vocab_size=18, hidden=4, bos=17)
    return model, recipes.pixels(data.load("digits")), recipes._config("quick", 1, 1)


def test_a_density_of_tables_writes_rows_that_can_be_read_again(tmp_path):
    model = recipes.nsf_moons("quick")[0]
    file = checkpoint.save(tmp_path / "m.safetensors", model)
    options = ("--n", 5, "--temperature", 0.5, "--seed", 4)
    assert run("sample", "nsf_moons", "--checkpoint", file, *options).text == "saved rows.csv"
    names, *rows = Path("rows.csv").read_text("utf-8").splitlines()
    assert names == "x1,x2"
    wanted = model.eval().sample(5, temperature=0.5, generator=torch.Generator().manual_seed(4))
    written = torch.tensor([[float(value) for value in row.split(",")] for row in rows])
    torch.testing.assert_close(written, wanted, atol=1e-5, rtol=1e-5)
    refused = run("sample", "nsf_moons", "--checkpoint", file, "--mean")
    assert "makes rows and takes no --mean" in refused.text


def test_a_gan_of_points_writes_rows(tmp_path):
    model = recipes.gan_gaussians("quick")[0]
    file = checkpoint.save(tmp_path / "m.safetensors", model)
    options = ("--n", 4, "--temperature", 0.5, "--seed", 4)
    assert run("sample", "gan_gaussians", "--checkpoint", file, *options).text == "saved rows.csv"
    wanted = model.eval().sample(4, temperature=0.5, generator=torch.Generator().manual_seed(4))
    lines = Path("rows.csv").read_text("utf-8").splitlines()[1:]
    written = torch.tensor([[float(value) for value in line.split(",")] for line in lines])
    torch.testing.assert_close(written, wanted, atol=1e-5, rtol=1e-5)
    shown = run("evaluate", "gan_gaussians", "--checkpoint", file, "--limit", 50).text
    assert re.search(r"modes +\d+ +found +near +[\d.]+ +share of the samples", shown)


def test_a_flow_of_images_heeds_the_temperature(tmp_path):
    model = recipes.realnvp_digits("quick")[0].eval()
    file = checkpoint.save(tmp_path / "r.safetensors", model)
    options = ("--n", 4, "--temperature", 0.0)
    drawn = run("sample", "realnvp_digits", "--checkpoint", file, *options)
    assert drawn.text == "saved grid.png"
    plot.save_grid(model.sample(4, temperature=0.0), tmp_path / "wanted.png")
    assert Image.open("grid.png").tobytes() == Image.open(tmp_path / "wanted.png").tobytes()


def test_a_diffusion_draws_a_class_in_steps_past_the_label(tmp_path):
    model = recipes.diffusion_fashion("quick")[0].eval()
    with torch.no_grad():  # so that what it predicts is not 0
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    file = checkpoint.save(tmp_path / "d.safetensors", model)
    ways = ("--steps", 3, "--sampler", "ddim", "--guidance", 1.5)
    for label in ("Sandal", "5"):
        asked = ("--checkpoint", file, "--n", 4, "--label", label)
        assert run("sample", "diffusion_fashion", *asked, *ways).text == "saved grid.png"
        options = {"steps": 3, "sampler": "ddim", "guidance": 1.5}
        seeded = torch.Generator().manual_seed(0)
        wanted = model.sample(4, torch.full((4,), 5), generator=seeded, **options)
        plot.save_grid(wanted, tmp_path / "wanted.png")
        assert Image.open("grid.png").tobytes() == Image.open(tmp_path / "wanted.png").tobytes()
    for given, said in (
        (("--label", "Hat"), "no class 'Hat'; choose one of T-shirt"),
        (("--label", "10"), "no class '10'"),
        (("--guidance", 2), "guidance needs labels"),
        (("--steps", 2000), "2000 steps"),
        (("--mean",), "takes no --mean"),
    ):
        refused = run("sample", "diffusion_fashion", "--checkpoint", file, "--n", 2, *given)
        assert refused.exit_code == 2
        assert said in refused.text
    plain = checkpoint.save(tmp_path / "r.safetensors", recipes.realnvp_digits("quick")[0])
    refused = run("sample", "realnvp_digits", "--checkpoint", plain, "--label", "3")
    assert "takes no --label" in refused.text


def test_a_picture_is_drawn_of_its_name(tmp_path):
    model, dataset = tiny_painter()
    with torch.no_grad():  # so that what it predicts is not 0
        for parameter in model.diffusion.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    file = checkpoint.save(tmp_path / "e.safetensors", model, tokenizer=dataset.tokenizer)
    asked = ("sample", "tiny_painter", "--checkpoint", file, "--n", 3)
    options = {"steps": 3, "guidance": 1.5, "mean": True}
    for prompt in ("red heart", "dog face"):
        ways = ("--prompt", prompt, "--steps", 3, "--guidance", 1.5, "--mean")
        assert run(*asked, *ways).text == "saved grid.png"
        y = rows(dataset.tokenizer, [prompt] * 3, prepared.PROMPT)
        wanted = model.sample(3, y, generator=torch.Generator().manual_seed(0), **options)
        plot.save_grid(wanted, tmp_path / "wanted.png")
        assert Image.open("grid.png").tobytes() == Image.open(tmp_path / "wanted.png").tobytes()
    assert run(*asked, "--steps", 2).text == "saved grid.png"
    for given, said in (
        (("--prompt", "xylograph"), "'xylograph'"),
        (("--guidance", 2), "guidance needs labels or prompts"),
        (("--label", "3"), "takes no --label"),
        (("--temperature", 0.5), "takes no --temperature"),
    ):
        refused = run(*asked, *given)
        assert refused.exit_code == 2
        assert said in refused.text


def test_a_prompt_is_read_by_the_tokenizer_of_the_model(tmp_path):
    model, dataset = tiny_painter()
    asked = ("sample", "tiny_painter", "--prompt", "red heart", "--n", 1, "--checkpoint")
    without = checkpoint.save(tmp_path / "a.safetensors", model)
    assert "has no tokenizer" in run(*asked, without).text
    other = CharTokenizer("red hat")
    wrong = checkpoint.save(tmp_path / "b.safetensors", model, tokenizer=other)
    assert f"knows {other.size} tokens, but the model {dataset.tokenizer.size}" in (
        run(*asked, wrong).text
    )


def test_masked_tokens_are_filled_in_so_many_steps(tmp_path):
    model, dataset, _ = recipes.masked_diffusion_poems("quick")
    file = checkpoint.save(tmp_path / "m.safetensors", model.eval(), tokenizer=dataset.tokenizer)
    asked = (
        "sample",
        "masked_diffusion_poems",
        "--checkpoint",
        file,
        "--prompt",
        "春",
        "--seed",
        3,
    )
    written = [run(*asked, "--steps", steps).text for steps in (1, 5, 5)]
    assert written[1] == written[2] != written[0]
    seeded = torch.Generator().manual_seed(3)
    wanted = complete(model, dataset.tokenizer, "春", prepared.POEM - 1, generator=seeded, steps=5)
    assert written[1] == " ".join(wanted.split())
    model, _, _ = recipes.masked_diffusion_digits("quick")
    file = checkpoint.save(tmp_path / "d.safetensors", model.eval())
    asked = ("sample", "masked_diffusion_digits", "--checkpoint", file, "--n", 2)
    assert run(*asked, "--steps", 4).text == "saved grid.png"
    empty, seeded = torch.empty(2, 0, dtype=torch.long), torch.Generator().manual_seed(0)
    tokens = model.generate(empty, 64, steps=4, generator=seeded)
    plot.save_grid((tokens / 16).view(2, 1, 8, 8), tmp_path / "wanted.png")
    assert Image.open("grid.png").tobytes() == Image.open(tmp_path / "wanted.png").tobytes()


def test_the_importance_bound_has_as_many_samples_as_asked(trained):
    lines = [run("evaluate", "tiny", "--checkpoint", trained, "--k", k).text for k in (0, 1, 50)]
    assert "elbo " in lines[0]
    assert "iw_bound" not in lines[0]
    bounds = [float(re.search(r"iw_bound (-?[\d.]+)", text)[1]) for text in lines[1:]]
    assert bounds[0] < bounds[1]


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_tokens_that_are_pixels_are_shown_as_an_image(monkeypatch, tmp_path, temperature):
    monkeypatch.setitem(recipes.RECIPES, "tiny_pixels", tiny_pixels)
    model = tiny_pixels()[0]
    file = checkpoint.save(tmp_path / "x.safetensors", model, recipe="tiny_pixels")
    drawn = run(
        *("sample", "tiny_pixels", "--checkpoint", file, "--n", 5, "--temperature", temperature),
    )
    assert drawn.text == "saved grid.png"
    empty, seeded = torch.empty(5, 0, dtype=torch.long), torch.Generator().manual_seed(0)
    tokens = model.generate(empty, 64, temperature=temperature, generator=seeded)
    images = (tokens.clamp(max=16) / 16).view(5, 1, 8, 8)  # 17 stands before the first, no grey
    plot.save_grid(images, tmp_path / "wanted.png")
    assert Image.open("grid.png").tobytes() == Image.open(tmp_path / "wanted.png").tobytes()
    refused = run("sample", "tiny_pixels", "--checkpoint", file, "--prompt", "7")
    assert "makes pixels and takes no --prompt" in refused.text
