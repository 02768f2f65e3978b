"""Experiments with pre-training: what they learn from has no labels, until it is used."""

from __future__ import annotations

import pytest

from gentext import recipes, zoo
from gentext.core import Encodes
from gentext.tokens.tokenizer import PAD, UNKNOWN


@pytest.mark.parametrize("name", ["contrastive_digits", "masked_autoencoder_digits"])
def test_features_are_learnt_from_images_alone(name: str) -> None:
    model, dataset, config = recipes.build(name, "quick")
    assert isinstance(model, Encodes)
    assert [len(part) for part in (dataset.train, dataset.test)] == [1, 1]
    assert model.shape == dataset.shape
    full = recipes.build(name, "full")
    assert full[0].arguments == model.arguments
    assert full[2].steps > config.steps


def test_genres_are_read_by_the_bert_of_poems_in_its_own_tokens() -> None:
    """Weights, vocabulary and context are those of its training."""
    model, dataset, config = recipes.build("finetuned_genre_zh", "quick")
    pretrained, tokenizer = zoo.load("bert_poems"), zoo.tokenizer("bert_poems")
    weights = model.encoder.state_dict()
    assert all(weights[name].equal(w) for name, w in pretrained.state_dict().items())
    assert dataset.tokenizer.to_json() == tokenizer.to_json()
    assert dataset.shape == (pretrained.context,)
    assert model.classes == len(dataset.classes) == 3
    model.check(*dataset.train)
    x = dataset.train[0]
    assert (x == UNKNOWN).sum() < 0.05 * (x != PAD).sum()
    assert recipes.build("finetuned_genre_zh", "full")[2].steps > config.steps
