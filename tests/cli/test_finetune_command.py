"""``gentext finetune``: what learns, what is printed, what is saved, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import run
from torch import nn
from torch.nn.functional import cross_entropy

import gentext as gt
from gentext import checkpoint, data
from gentext.cli import labelled_data
from gentext.evaluation.estimates import bootstrap_interval, paired_bootstrap
from gentext.tokens.tokenizer import CharTokenizer
from gentext.training import early_stopping
from gentext.training.early_stopping import EarlyStopping
from gentext.transfer.finetuning import Finetuned
from gentext.transfer.probe import LinearProbe

FEW = ("--labels-per-class", 4)
QUICK = (*FEW, "--no-baseline")
TRAINED = ("full", "lora", "l2-sp")
OUT = "runs/new"
FILE = f"{OUT}/checkpoint.safetensors"


@pytest.fixture
def encoder(tmp_path):
    """An encoder of digits with untrained weights, whose features tell them apart well enough."""
    torch.manual_seed(0)
    model = gt.VAE(shape=(1, 8, 8), latent=12, hidden=16, likelihood="logistic", levels=17)
    return checkpoint.save(tmp_path / "vae.safetensors", model, data=data.load("digits"))


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A BERT that was not trained, and a reader's own texts of two classes, some of them long."""
    texts = [("诗", "春眠不觉晓"), ("词", "明月几时有把酒问青天不知天上宫阙")]
    lines = [f"{kind}\t{text}{chr(0x3400 + k)}" for k in range(40) for kind, text in texts]
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "genre-zh.txt").write_text("\n".join(lines), "utf-8")
    monkeypatch.setenv("GENTEXT_DATA", str(tmp_path / "own"))
    tokenizer = CharTokenizer.fit(text for _, text in texts)
    torch.manual_seed(0)
    model = gt.BERT(vocab_size=tokenizer.size, context=9, layers=1, heads=2, width=8, pad=0)
    return checkpoint.save(tmp_path / "bert.safetensors", model, tokenizer=tokenizer)


def done(*arguments, out=OUT):
    shown = run("finetune", *arguments, "--out", out)
    assert shown.exit_code == 0, shown.text
    return shown.text


def numbers(text, who):
    """Accuracy in validation and in test, and the interval of the latter."""
    found = re.search(rf"{who} +([\d.]+) ([\d.]+) \(([\d.]+) to ([\d.]+)\)", text)
    return [float(number) for number in found.groups()]


def few_digits(file, n=4):
    found = gt.checkpoint.load(file)
    digits = data.load("digits")
    return found, labelled_data.few(digits, n, seed=0)


def test_a_probe_leaves_the_encoder_as_it_is_and_fits_the_head_best(encoder):
    """The bits of the encoder stay; the head predicts as the tuned regression on its features."""
    text = done("digits", "--from", encoder, *QUICK)
    before, digits = few_digits(encoder)
    saved = checkpoint.load(FILE)
    assert saved.arguments["frozen"] is True
    after = saved.encoder.state_dict()
    assert all(value.equal(after[name]) for name, value in before.state_dict().items())
    z = {split: before.represent(getattr(digits, split)[0]).detach() for split in
         ("train", "validation", "test")}  # fmt: skip
    validation = z["validation"], digits.validation[1]
    probe = LinearProbe.fit(z["train"], digits.train[1], validation, classes=10)
    expected = probe.logits(z["test"]).log_softmax(1)
    ours = saved.logits(digits.test[0]).log_softmax(1)
    torch.testing.assert_close(ours, expected, atol=1e-3, rtol=1e-3)
    inside = sum(p.numel() for p in before.parameters())
    assert f"probe: {12 * 10 + 10:,} parameters learn, {inside:,} stay as they are" in text


def test_the_saved_checkpoint_gives_the_accuracies_that_were_printed(encoder):
    text = done("digits", "--from", encoder, *QUICK, "--method", "full", "--steps", 40)
    validation, test, low, high = numbers(text, r"fine-tuned \(full\)")
    saved, digits = few_digits(FILE)
    assert validation == pytest.approx(float(saved.accuracy(*digits.validation)), abs=1e-4)
    right = saved.predict(digits.test[0]) == digits.test[1]
    assert test == pytest.approx(float(right.double().mean()), abs=1e-4)
    interval = bootstrap_interval(right.double(), generator=torch.Generator().manual_seed(0))
    assert (low, high) == pytest.approx(interval, abs=1e-4)
    header = checkpoint.info(FILE)
    assert header["recipe"] == "digits"
    assert header["metrics"]["test_accuracy"] == pytest.approx(test, abs=1e-4)
    measured = run("evaluate", "digits", "--checkpoint", OUT)
    assert float(re.search(r"accuracy ([\d.]+)", measured.text)[1]) == test
    assert measured.text.startswith("digits on digits (")


def test_the_baseline_is_the_tuned_probe_of_the_pixels_with_the_same_labels(encoder):
    text = done("digits", "--from", encoder, *FEW)
    _, digits = few_digits(encoder)
    assert len(digits.train[1]) == 40
    probe = LinearProbe.fit(*digits.train, digits.validation, classes=10)
    x, y = digits.test
    _, test, *_ = numbers(text, "linear probe on raw values")
    assert test == pytest.approx(float(probe.accuracy(x, y)), abs=1e-4)
    ours, its = checkpoint.load(FILE).predict(x) == y, probe.predict(x) == y
    gap = paired_bootstrap(ours.double(), its.double(), generator=torch.Generator().manual_seed(0))
    shown = re.search(r"less baseline ([+-][\d.]+) \(([+-][\d.]+) to ([+-][\d.]+)\)", text)
    assert [float(n) for n in shown.groups()] == pytest.approx(gap[:3], abs=1e-4)


@pytest.mark.parametrize("method", TRAINED)
def test_what_learns_is_what_the_method_says(encoder, method):
    text = done("digits", "--from", encoder, *QUICK, "--method", method, "--steps", 4)
    before, saved = checkpoint.load(encoder), checkpoint.load(FILE)
    weights = dict(before.named_parameters())
    sizes = {name: p.numel() for name, p in weights.items()}
    moved = {
        name for name, p in weights.items()
        if not any(q.shape == p.shape and q.equal(p) for q in saved.encoder.parameters())
    }  # fmt: skip
    if method == "lora":  # of all linear layers that the features go through, of rank 4
        layers = [part for part in before.encoder.modules() if type(part) is nn.Linear]
        learn = sum(4 * (layer.in_features + layer.out_features) for layer in layers)
        moved_in_all = set()
    else:
        learn = sum(size for name, size in sizes.items() if name.startswith("encoder."))
        moved_in_all = {name for name in sizes if name.startswith("encoder.")}
    head = sum(p.numel() for p in saved.head.parameters())
    stay = sum(sizes.values()) - (0 if method == "lora" else learn)
    assert f"{method}: {learn + head:,} parameters learn, {stay:,} stay as they are" in text
    assert moved == moved_in_all


def test_options_reach_the_model_and_a_pull_holds_it_back(encoder):
    common = ("digits", "--from", encoder, *QUICK, "--steps", 30, "--patience", 0)
    before, far = checkpoint.load(encoder), []
    for pull in (1e-6, 10):
        text = done(
            *common, "--method", "l2-sp", "--pull", pull, "--decay", 0.5, out=f"runs/{pull}"
        )
        assert "30 steps in" in text
        saved = checkpoint.load(f"runs/{pull}")
        assert (saved.pull, saved.decay) == (pull, 0.5)
        pairs = zip(saved.encoder.parameters(), before.parameters(), strict=True)
        far.append(sum(float((w - w_0).detach().square().sum()) for w, w_0 in pairs))
    assert 0 < far[1] < far[0] / 3
    done(*common, "--method", "lora", "--rank", 2, "--layers", "encoder.head.0, head.2")
    lora = checkpoint.load(FILE).arguments["lora"]
    assert lora == {"names": ("encoder.head.0", "head.2"), "rank": 2}


def test_the_weights_that_are_best_in_validation_are_kept(encoder, monkeypatch):
    watches = []

    class Watch(EarlyStopping):
        def __init__(self, *args, **named):
            super().__init__(*args, **named)
            watches.append(self)

    monkeypatch.setattr(early_stopping, "EarlyStopping", Watch)
    far = ("--method", "full", "--lr", 0.05, "--steps", 60)
    text = done("digits", "--from", encoder, *QUICK, *far)
    looks = watches[0].looks
    best = min(looks, key=looks.get)
    assert best < max(looks)
    assert f"{max(looks)} steps in" in text
    assert f"kept are the weights of step {best} " in text
    saved, digits = few_digits(FILE)
    x, y = digits.validation
    assert float(cross_entropy(saved.logits(x), y).detach()) == pytest.approx(looks[best], rel=1e-5)
    assert checkpoint.info(FILE)["step"] == best


def test_a_seed_decides_everything(encoder):
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        how = ("--method", "lora", "--steps", 5, "--seed", seed)
        done("digits", "--from", encoder, *QUICK, *how, out=folder)
    a, b, c = (checkpoint.load(folder).state_dict() for folder in "abc")
    assert all(a[name].equal(b[name]) for name in a)
    assert not a["head.weight"].equal(c["head.weight"])


@pytest.mark.parametrize("method", ["probe", "full"])
def test_texts_are_read_in_the_tokens_of_the_encoder(reader, method):
    how = ("--method", method, *(("--steps", 20, "--lr", 0.02) if method == "full" else ()))
    text = done("genre-zh", "--from", reader, *how)
    assert "texts are rows of 9 tokens" in text
    # the last character of each text is in no token
    texts = gt.text.load("genre-zh").train
    assert f"characters {len(texts) / len(''.join(texts)):.1%} are not" in text
    assert numbers(text, "n-grams of characters")[1] == 1
    measured = run("evaluate", "genre-zh", "--checkpoint", OUT)
    accuracy = float(re.search(r"accuracy ([\d.]+)", measured.text)[1])
    assert accuracy == numbers(text, rf"fine-tuned \({method}\)")[1]


def own_digits(folder, classes):
    """The reader's own digits, only of some classes, and none to validate."""
    y = torch.arange(40) % classes
    x = torch.randint(17, (40, 8, 8), dtype=torch.uint8)
    (folder / "digits").mkdir()
    arrays = {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
    np.savez(folder / "digits" / "digits.npz", **{k: v.numpy() for k, v in arrays.items()})


REFUSED = {
    "a class without examples": ((), "and none of class 8, 9: give examples of all 10 classes"),
    "too few": (("--labels-per-class", 300), "of class 8 there are 121 examples in the training"),
    "more data": (("--full-data",), "no more data of digits than come with gentext; leave out --f"),
    "method": (("--method", "prob"), "unknown method 'prob': did you mean 'probe'?"),
    "rank": (("--rank", 2), "--rank belongs to --method lora, and you chose probe; leave it out"),
    "steps": (("--steps", 2), "--steps belongs to --method full or lora or l2-sp, and you chose"),
    "batch": (("--batch-size", 2), "--batch-size belongs to --method full or lora or l2-sp"),
    "layers": (
        ("--method", "lora", "--layers", "q"),
        "no linear layer is called 'q': there are encoder.features.1, encoder.head.0, ",
    ),
    "large rank": (("--method", "lora", "--rank", 99), "got --rank 99; a matrix of"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_leaves_no_file(encoder, case, tmp_path, monkeypatch):
    options, words = REFUSED[case]
    if case == "a class without examples":
        own_digits(tmp_path, 8)
        monkeypatch.setenv("GENTEXT_DATA", str(tmp_path))
    refuse(words, "digits", "--from", encoder, *options)


def refuse(words, *arguments):
    shown = run("finetune", *arguments, "--out", OUT)
    assert shown.exit_code == 2, shown.text
    assert words in shown.text
    assert shown.stderr.count("\n") == 1
    assert not Path(OUT).exists()


def test_an_encoder_of_other_examples_is_refused(encoder, reader, tmp_path):
    refuse(f"{encoder} reads examples of shape (1, 8, 8), and those of fashion-mnist are of shape "
           "(1, 28, 28)", "fashion-mnist", "--from", encoder)  # fmt: skip
    refuse(f"{encoder} reads examples of shape (1, 8, 8), and genre-zh are texts",
           "genre-zh", "--from", encoder)  # fmt: skip
    refuse(f"{reader} reads rows of tokens, and digits are images of shape (1, 8, 8)",
           "digits", "--from", reader)  # fmt: skip
    refuse("which lacks 100% of the characters of genre-en; give an encoder of such texts",
           "genre-en", "--from", reader)  # fmt: skip
    bare = checkpoint.save(tmp_path / "b.safetensors", checkpoint.load(reader))
    refuse("has no tokenizer to read genre-zh with", "genre-zh", "--from", bare)
    other = CharTokenizer("春眠不")
    odd = checkpoint.save(tmp_path / "o.safetensors", checkpoint.load(reader), tokenizer=other)
    refuse("the tokenizer knows 7 tokens, but the model", "genre-zh", "--from", odd)
    flow = gt.MAF(features=64, transforms=1, hidden=(64,))
    flat = checkpoint.save(tmp_path / "f.safetensors", flow)
    refuse("reads examples of shape unknown, and those of digits", "digits", "--from", flat)


def test_an_encoder_whose_features_cannot_learn_is_only_probed(tmp_path):
    model = gt.ImageFlowMatching(shape=(1, 8, 8), levels=17)
    file = checkpoint.save(tmp_path / "f.safetensors", model)
    words = "have no gradient, so only the head can learn: choose --method probe"
    refuse(words, "digits", "--from", file, "--method", "full")


def test_low_rank_updates_need_linear_layers(tmp_path):
    flow = gt.ImageFlow(shape=(1, 8, 8), levels=17, flow="maf", transforms=1, hidden=(64,))
    file = checkpoint.save(tmp_path / "f.safetensors", flow)
    words = "go through no linear layer that low-rank updates could be added to"
    refuse(words, "digits", "--from", file, "--method", "lora")


def test_a_text_in_another_encoding_is_refused(reader, tmp_path):
    (tmp_path / "own" / "genre-zh.txt").write_bytes("诗\t春眠不觉晓\n".encode("gb18030"))
    words = "genre-zh.txt cannot be read as classes: byte 0xb4 at place 3 (line 1) is not utf-8"
    refuse(words, "genre-zh", "--from", reader)


def test_what_is_there_is_not_written_over(encoder):
    done("digits", "--from", encoder, *QUICK)
    before = checkpoint.info(FILE)
    shown = run("finetune", "digits", "--from", encoder, *QUICK, "--out", OUT)
    assert shown.exit_code == 2
    assert f"--out {OUT} already holds a checkpoint.safetensors; choose another" in shown.text
    assert checkpoint.info(FILE) == before


def test_an_interrupted_training_leaves_nothing(encoder, monkeypatch):
    def broken(self, *_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Finetuned, "loss", broken)
    shown = run("finetune", "digits", "--from", encoder, *QUICK, "--method", "full", "--out", OUT)
    assert shown.exit_code == 130
    assert "Stopped; nothing was saved yet." in shown.text


def test_what_was_fine_tuned_draws_nothing(encoder):
    done("digits", "--from", encoder, *QUICK)
    refused = run("sample", "digits", "--checkpoint", OUT)
    assert refused.exit_code == 2
    assert "a Finetuned cannot draw samples" in refused.text


def test_the_result_has_a_folder_of_its_own_by_default(encoder):
    text = run("finetune", "digits", "--from", encoder, *QUICK).text
    assert text.endswith("saved runs/digits-probe/checkpoint.safetensors")


def test_the_folder_of_a_training_is_an_encoder(trained):

    assert numbers(done("digits", "--from", trained, *QUICK), r"fine-tuned \(probe\)")[1] > 0.1
