"""The command line as tests use it, and experiments that take no time."""

import re
from dataclasses import replace
from pathlib import Path

from typer.testing import CliRunner

from gentext import checkpoint, data, text
from gentext.cli import app
from gentext.data import prepared
from gentext.denoising.diffusion import Diffusion
from gentext.denoising.latent_diffusion import LatentDiffusion
from gentext.latent.image_vae import ImageVAE
from gentext.latent.vae import VAE
from gentext.recipes.budgets import config_for
from gentext.sequences.recurrent import RecurrentLM
from gentext.sequences.seq2seq import Seq2Seq
from gentext.tokens.tokenizer import CharTokenizer

ALONE = ("list", "train", "finetune", "sample", "evaluate")
COMMANDS = (*([name] for name in ALONE), ["data", "list"], ["data", "fetch"])
POEM = "春眠不觉晓，处处闻啼鸟。"
FACTS = ("name", "shape", "image_shape", "classes", "levels")


def run(*arguments):
    """The result of ``gentext arguments``, its text without colours and line breaks."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], prog_name="gentext")
    result.text = " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", "", result.output).split())
    return result


def keep(path, model, dataset, **what):
    """A checkpoint that says what the data were."""
    header, tensors = checkpoint.read(checkpoint.save(path, model, **what))
    facts = {key: getattr(dataset, key) or None for key in FACTS}
    return checkpoint.write(Path(path), tensors, {**header, "data": facts})


def tiny(chosen=None, *, full_data=False):
    """A tiny VAE on a few digits."""
    digits = data.load("digits").without_labels()
    model = VAE(shape=(1, 8, 8), latent=2, hidden=8, likelihood="logistic", levels=17)
    return model, digits, config_for(chosen, 30, 60)


def tiny_text(chosen=None, *, full_data=False):
    """A tiny network that knows one poem."""
    corpus = text.Corpus(
        name="poem", train=(POEM,) * 8, validation=(POEM,), test=(POEM,) * 3, notes={}, licence="",
        source="",
    )  # fmt: skip
    dataset = text.padded(corpus, CharTokenizer.fit([POEM]), 16)
    model = RecurrentLM(vocab_size=dataset.tokenizer.size, hidden=32, pad=0)
    return model, dataset, replace(config_for(chosen, 120, 120), lr=0.02)


def tiny_translator(chosen=None, *, full_data=False):
    """A tiny network that knows the way from a to 春."""
    corpus = text.Corpus(
        name="two", train=(("a", "春"), ("b", "夏")) * 4, validation=(("a", "春"),),
        test=(("a", "春"), ("b", "夏")), notes={}, licence="", source="",
    )  # fmt: skip
    dataset = text.pairs(corpus, CharTokenizer("ab春夏"), 4)
    model = Seq2Seq(vocab_size=8, net="gru", width=16, layers=1, dropout=0.0, context=4)
    return model, dataset, replace(config_for(chosen, 100, 100), lr=0.02)


def tiny_pixels(chosen=None, *, full_data=False):
    """A network that knows nothing of digits."""
    model = RecurrentLM(vocab_size=18, hidden=4, bos=17)
    return model, prepared.pixels(data.load("digits")), config_for("quick", 1, 1)


def tiny_painter():
    """A network that has seen no emoji, and their names."""
    dataset = prepared.captions(language="en")
    words = {"vocab_size": dataset.tokenizer.size, "context": prepared.PROMPT}
    prior = Diffusion("dit", shape=(4, 8, 8), levels=None, width=16, layers=1, **words)
    coder = ImageVAE(shape=(3, 32, 32), hidden=4)
    return LatentDiffusion(autoencoder=coder, diffusion=prior, scale=1.0).eval(), dataset
