"""Experiments with sequences: rows of tokens from texts, images, and a VQ-VAE."""

from __future__ import annotations

import torch

from gentext import data, recipes, zoo
from gentext.data.prepared import binary


def test_two_priors_learn_the_same_codes_of_the_vqvae() -> None:
    gpt, rows, _ = recipes.gpt_codes("quick")
    pixelcnn, maps, _ = recipes.pixelcnn_codes("quick")
    coder = zoo.load("vqvae_mnist")
    with torch.no_grad():
        expected = coder.encode(binary(data.load("mnist")).test[0][:20])
    assert rows.test[0][:20].equal(expected.flatten(1))
    assert maps.test[0][:20].equal(expected[:, None].long())
    assert rows.levels == len(coder.quantizer.codebook) == 64
    assert gpt.vocab_size == 64 + 1  # with what stands before the first
    assert pixelcnn.arguments["levels"] == 64


def test_translators_go_both_ways_in_one_vocabulary() -> None:
    there, forth, config = recipes.seq2seq_en_zh("quick")
    back, reverse, _ = recipes.seq2seq_zh_en("quick")
    gru, same, other = recipes.seq2seq_gru_en_zh("quick")
    assert forth.tokenizer.to_json() == reverse.tokenizer.to_json() == same.tokenizer.to_json()
    assert forth.test[0].equal(reverse.test[1])
    assert forth.test[1].equal(reverse.test[0])
    assert there.arguments == back.arguments == {**gru.arguments, "net": "transformer"}
    assert gru.arguments["net"] == "gru"
    assert (config.lr, other.lr) == (2e-3, 3e-3)


def test_a_model_of_texts_is_built_for_its_tokenizer_and_context() -> None:
    for name in ("gpt_poems", "bert_poems", "gpt_shakespeare", "recurrent_poems"):
        model, dataset, _ = recipes.build(name, "quick")
        assert model.vocab_size == dataset.tokenizer.size
        assert getattr(model, "context", None) in (None, *dataset.shape)


def test_pixels_of_the_digits_are_17_tokens_and_one_before_the_first() -> None:
    for name in ("gpt_digits", "recurrent_digits"):
        model, dataset, _ = recipes.build(name, "quick")
        assert int(dataset.train[0].max()) == 16
        assert model.bos == 17
        assert model.vocab_size == 18
        assert dataset.image_shape == (1, 8, 8)
