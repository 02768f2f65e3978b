"""Experiments with sequences: texts, pixels, and the codes of a VQ-VAE."""

from __future__ import annotations

from gentext import data, zoo
from gentext.data import Dataset
from gentext.data.prepared import (
    BOTH,
    POEM,
    SENTENCE,
    bilingual,
    binary,
    codes,
    images,
    pixels,
    poems,
    shakespeare,
    translations,
)
from gentext.recipes.budgets import Experiment, config_for, transformer_config_for
from gentext.sequences.bert import BERT
from gentext.sequences.gpt import GPT
from gentext.sequences.original_bert import OriginalBERT
from gentext.sequences.pixelcnn import PixelCNN
from gentext.sequences.recurrent import RecurrentLM
from gentext.sequences.seq2seq import Seq2Seq
from gentext.sequences.vqvae import VQVAE
from gentext.tokens.tokenizer import PAD


def recurrent_shakespeare(budget: str | None = None) -> Experiment:
    """A gated recurrent network that writes Shakespeare character by character."""
    dataset = shakespeare(128)
    model = RecurrentLM(vocab_size=dataset.tokenizer.size, hidden=384)
    return model, dataset, config_for(budget, 40, 1500, batch_size=32, lr=4e-3, clip=1.0, ema=0.99)


def recurrent_poems(budget: str | None = None) -> Experiment:
    """A gated recurrent network that writes quatrains of the Tang character by character."""
    dataset = poems()
    model = RecurrentLM(vocab_size=dataset.tokenizer.size, hidden=256, dropout=0.2, pad=PAD)
    return model, dataset, config_for(budget, 40, 1500, batch_size=64, lr=4e-3, clip=1.0, ema=0.99)


def recurrent_digits(budget: str | None = None) -> Experiment:
    """A gated recurrent network on the pixels of the 8x8 digits, given the pixel above as well."""
    dataset = pixels(data.load("digits"))
    model = RecurrentLM(vocab_size=18, hidden=128, dropout=0.5, bos=17, row=8)
    config = config_for(
        budget, 150, 1800, batch_size=64, lr=3e-3, weight_decay=0.1, clip=1.0, ema=0.99
    )
    return model, dataset, config


def seq2seq_en_zh(budget: str | None = None) -> Experiment:
    """A Transformer that translates English numbers, dates and sentences into Chinese."""
    return _translator(budget, 750)


def seq2seq_zh_en(budget: str | None = None) -> Experiment:
    """A Transformer that translates Chinese numbers, dates and sentences into English."""
    return _translator(budget, 1000, reverse=True)


def seq2seq_gru_en_zh(budget: str | None = None) -> Experiment:
    """The translator of ``seq2seq_en_zh`` by recurrent networks with attention, in equal time."""
    return _translator(budget, 820, net="gru", lr=3e-3)


def gpt_shakespeare(budget: str | None = None) -> Experiment:
    """A GPT that writes Shakespeare character by character, reading the last 256."""
    dataset = shakespeare(256)
    model = GPT(vocab_size=dataset.tokenizer.size, context=256, layers=4, heads=6, width=192)
    return model, dataset, transformer_config_for(budget, 60, 14_000, batch_size=4)


def gpt_poems(budget: str | None = None) -> Experiment:
    """A GPT that writes quatrains of the Tang character by character."""
    dataset = poems()
    model = GPT(
        vocab_size=dataset.tokenizer.size,
        context=POEM,
        layers=3,
        heads=6,
        width=192,
        dropout=0.1,
        pad=PAD,
    )
    return model, dataset, transformer_config_for(budget, 100, 3000, batch_size=64)


def gpt_digits(budget: str | None = None) -> Experiment:
    """A GPT on the pixels of the 8x8 digits, row by row."""
    dataset = pixels(data.load("digits"))
    model = GPT(vocab_size=18, context=64, layers=3, heads=4, width=64, dropout=0.2, bos=17)
    return model, dataset, transformer_config_for(budget, 200, 3000, batch_size=64)


def bert_poems(budget: str | None = None) -> Experiment:
    """A BERT that fills gaps in quatrains of the Tang, character by character."""
    dataset = poems()
    model = BERT(
        vocab_size=dataset.tokenizer.size,
        context=POEM,
        layers=3,
        heads=4,
        width=128,
        pad=PAD,
    )
    return model, dataset, transformer_config_for(budget, 60, 4500, batch_size=64)


def bert_bilingual(budget: str | None = None) -> Experiment:
    """The original BERT, small, on pairs of sentences of all bundled texts in both languages."""
    dataset = bilingual()
    tokenizer = dataset.tokenizer
    model = OriginalBERT(
        vocab_size=tokenizer.size,
        context=BOTH,
        layers=4,
        heads=4,
        width=128,
        ends=(tokenizer.bos, tokenizer.eos),
    )
    return model, dataset, transformer_config_for(budget, 30, 4500, batch_size=64)


def vqvae_mnist(budget: str | None = None, *, full_data: bool = False) -> Experiment:
    """A VQ-VAE that writes a binary MNIST digit as 49 of 64 codes."""
    dataset = binary(data.load("mnist", full=full_data)).without_labels()
    model = VQVAE(shape=(1, 28, 28))
    return model, dataset, config_for(budget, 120, 1200, batch_size=64, lr=2e-3, ema=0.99)


def pixelcnn_digits(budget: str | None = None) -> Experiment:
    """A gated PixelCNN on the 8x8 digits."""
    model = PixelCNN(shape=(1, 8, 8), levels=17, channels=24, kernel=5, dropout=0.3)
    config = config_for(budget, 200, 2000, batch_size=64, lr=4e-3, weight_decay=0.01, ema=0.995)
    return model, data.load("digits").without_labels(), config


def pixelcnn_fashion(budget: str | None = None, *, full_data: bool = False) -> Experiment:
    """A gated PixelCNN on Fashion-MNIST in its 256 grey levels."""
    model = PixelCNN(shape=(1, 28, 28), levels=256, channels=24, kernel=5)
    config = config_for(budget, 40, 3500, batch_size=32, lr=3e-3, clip=1000.0, ema=0.998)
    return model, data.load("fashion-mnist", full=full_data).without_labels(), config


def pixelcnn_codes(budget: str | None = None, *, full_data: bool = False) -> Experiment:
    """A PixelCNN as the prior over the codes of ``vqvae_mnist``."""
    maps = images(_codes(full_data), lambda k: k.view(-1, 1, 7, 7), shape=(1, 7, 7))
    model = PixelCNN(shape=(1, 7, 7), levels=64, layers=3, kernel=5, dropout=0.3, ordered=False)
    return model, maps, config_for(budget, 100, 1000, batch_size=64, lr=2e-3, ema=0.99)


def gpt_codes(budget: str | None = None, *, full_data: bool = False) -> Experiment:
    """A GPT as the prior over the codes of ``vqvae_mnist``."""
    model = GPT(vocab_size=65, context=49, layers=3, heads=4, width=96, dropout=0.2, bos=64)
    return model, _codes(full_data), transformer_config_for(budget, 60, 1500, batch_size=64)


def _translator(
    budget: str | None,
    full: int,
    *,
    net: str = "transformer",
    lr: float = 2e-3,
    reverse: bool = False,
) -> Experiment:
    dataset = translations(reverse=reverse)
    model = Seq2Seq(vocab_size=dataset.tokenizer.size, net=net, dropout=0.0, context=SENTENCE)
    return model, dataset, config_for(budget, 120, full, batch_size=32, lr=lr, clip=1.0)


def _codes(full_data: bool) -> Dataset:
    """MNIST as the codes of the VQ-VAE of the zoo."""
    dataset = binary(data.load("mnist", full=full_data))
    return codes(zoo.load("vqvae_mnist"), dataset, "vqvae_mnist")
