"""``gentext evaluate``: the same numbers as ``metrics.evaluate``, with units."""

import json
import math
import re
from dataclasses import replace

import pytest
import torch
from command_line import keep, run, tiny, tiny_text

from gentext import checkpoint, metrics, zoo
from gentext.cli.evaluate_command import unit
from gentext.tokens.tokenizer import CharTokenizer


def test_evaluate_prints_the_metrics_with_units(trained):
    shown = run(
        "evaluate", "tiny", "--checkpoint", f"{trained}/checkpoint.safetensors", "--limit", 50
    )
    assert shown.exit_code == 0
    model = checkpoint.load(f"{trained}/checkpoint.safetensors")
    rows = [line.split() for line in shown.stdout.splitlines()[1:]]
    expected = metrics.evaluate(model, tiny()[1], seed=0, limit=50)
    assert {row[0]: float(row[1]) for row in rows} == pytest.approx(expected, abs=1e-4)
    units = {row[0]: " ".join(row[2:]) for row in rows}
    assert units["elbo"] == "nats per example"
    assert units["elbo_bits_per_dim"] == "bits/dim"
    assert units["n"] == "examples"


def test_texts_are_measured_in_their_units(poet):
    measured = run("evaluate", *poet)
    assert measured.exit_code == 0, measured.text
    bits = float(re.search(r"bits_per_char ([\d.]+) bits/character", measured.text)[1])
    perplexity = float(re.search(r"perplexity ([\d.]+) tokens", measured.text)[1])
    # 13 tokens, the end among them, for 12 characters
    assert math.isclose(bits, math.log2(perplexity) * 13 / 12, abs_tol=2e-3)


def test_texts_of_another_tokenizer_are_not_measured(tmp_path):
    model, dataset, _ = tiny_text()
    other = CharTokenizer(dataset.tokenizer.alphabet[::-1])
    file = checkpoint.save(tmp_path / "o.safetensors", model, tokenizer=other)
    refused = run("evaluate", "tiny_text", "--checkpoint", file)
    assert refused.exit_code == 2
    assert "another tokenizer" in refused.text


def test_the_importance_bound_has_as_many_samples_as_asked(trained):
    lines = [run("evaluate", "tiny", "--checkpoint", trained, "--k", k).text for k in (0, 1, 50)]
    assert "elbo " in lines[0]
    assert "iw_bound" not in lines[0]
    bounds = [float(re.search(r"iw_bound (-?[\d.]+)", text)[1]) for text in lines[1:]]
    assert bounds[0] < bounds[1]


def test_it_says_on_which_data_and_how_many_it_measures(trained, tmp_path):
    measured = ("--limit", 20, "--k", 0)
    first = run("evaluate", "tiny", "--checkpoint", trained, *measured).output.splitlines()[0]
    _, digits, _ = tiny()
    assert first == f"tiny on digits ({digits.source}), 20 of 360 test examples, seed 0"
    model, _, _ = tiny()
    own = replace(digits, name="my-digits")
    file = keep(tmp_path / "o.safetensors", model, own)
    first = run("evaluate", "tiny", "--checkpoint", file, *measured).output.splitlines()[0]
    assert first.startswith("tiny, trained on my-digits, on digits (")
    file = keep(tmp_path / "o.safetensors", model, digits)
    first = run("evaluate", "tiny", "--checkpoint", file, *measured).output.splitlines()[0]
    assert first.startswith("tiny on digits (")


def test_it_says_how_much_the_weights_had_seen():
    """They are measured on the excerpt, or on a reader's own file of that name."""
    checkpoint.save(zoo.FOLDER / "tiny.safetensors", tiny()[0])
    for train, said in ((60000, "tiny, trained on 60000 examples of digits, on digits ("),
                        (1257, "tiny on digits (")):  # fmt: skip
        facts = {"name": "digits", "shape": [1, 8, 8], "train": train}
        (zoo.FOLDER / "tiny.json").write_text(json.dumps({"recipe": "tiny", "data": facts}))
        shown = run("evaluate", "tiny", "--limit", 20, "--k", 0)
        assert shown.stdout.startswith(said)
        assert shown.stderr.startswith("measuring")


def test_a_model_of_other_shapes_is_not_measured(tmp_path):
    model, digits, _ = tiny()
    own = replace(digits, name="own", train=(torch.zeros(3, 1, 4, 4),), validation=(),
                  test=(torch.zeros(3, 1, 4, 4),), shape=(1, 4, 4))  # fmt: skip
    file = keep(tmp_path / "o.safetensors", model, own)
    refused = run("evaluate", "tiny", "--checkpoint", file)
    assert refused.exit_code == 2
    assert "tiny was trained on own of shape (1, 4, 4), and digits" in refused.text


def test_a_file_without_a_recipe_is_measured_by_the_one_that_is_named(tmp_path):
    file = checkpoint.save(tmp_path / "v.safetensors", tiny()[0])
    refused = run("evaluate", "tiny_txt", "--checkpoint", file)
    assert refused.exit_code == 2
    assert "unknown recipe 'tiny_txt': did you mean 'tiny_text' or" in refused.text


def test_weights_of_another_name_are_measured_on_the_data_of_their_recipe():
    checkpoint.save(zoo.FOLDER / "best.safetensors", tiny()[0])
    facts = {"name": "digits", "shape": [1, 8, 8]}
    (zoo.FOLDER / "best.json").write_text(json.dumps({"recipe": "tiny", "data": facts}))
    assert run("evaluate", "best", "--limit", 20, "--k", 0).text.startswith("best on digits")


def test_every_metric_has_its_unit():
    assert unit("iw_bound_bits_per_dim") == "bits/dim"
    assert unit("bits_per_char") == "bits/character"
    assert unit("log_prob") == unit("elbo") == "nats per example"
    assert unit("frechet") == "squared distance of features"
    assert unit("accuracy") == unit("recall") == "share of the examples"
