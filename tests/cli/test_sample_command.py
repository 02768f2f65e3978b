"""``gentext sample``: what a student types, and what comes out."""

import pytest
from command_line import POEM, run, tiny_text, tiny_translator
from PIL import Image

from gentext import checkpoint
from gentext.sequences.gpt import GPT


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
        (("--prompt", "春x"), "'x' at place 1"),
        (("--steps", 4), "makes texts and takes no --steps"),
        (("--out", "poem.png"), "--out poem.png does not end in .txt or .md, as texts do"),
    ],
)
def test_what_cannot_be_written_is_said_in_one_line(poet, options, message):
    refused = run("sample", *poet, *options)
    assert refused.exit_code == 2
    assert refused.text.startswith("Error: ")
    assert message in refused.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--prompt", "abab"), "5 tokens with its end, but tiny_translator reads at most 4"),
        (
            ("--prompt", "a", "--length", 5),
            "got --length 5, but tiny_translator writes 4 tokens at most",
        ),
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
    assert (
        "the --prompt has 8 tokens, but tiny_text goes on from 7 at most; give only its end"
        in refused.text
    )
    written = run("sample", "tiny_text", "--checkpoint", file, "--prompt", POEM[:7])
    assert written.exit_code == 0
    assert len(written.text) <= 8
