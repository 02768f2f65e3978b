"""Experiments with games: in the plane and of images."""

from __future__ import annotations

from gentext import recipes


def test_games_of_the_plane_are_played_where_the_modes_are_known() -> None:
    for name, modes in (("gan_gaussians", 8), ("gan_grid25", 25)):
        model, dataset, config = recipes.build(name, "quick")
        centres, radius = dataset.modes
        assert len(centres) == modes
        assert radius > 0
        assert config.betas == (0.5, 0.9)
        assert model.arguments["penalties"] == {"r1": 0.5, "r2": 0.5}


def test_games_of_images_differ_in_data_and_classes_only() -> None:
    plain, clothes, config = recipes.gan_fashion("quick")
    digits, numbers, same = recipes.gan_mnist("quick")
    given, labelled, also = recipes.conditional_gan_fashion("quick")
    assert plain.arguments == digits.arguments == {**given.arguments, "classes": 0}
    assert given.arguments["classes"] == len(labelled.classes) == 10
    assert config == same == also
    assert config.betas == (0.0, 0.99)
    assert [len(d.train) for d in (clothes, numbers, labelled)] == [1, 1, 2]


def test_a_gan_that_sorts_has_ten_labels_a_class() -> None:
    model, dataset, _ = recipes.semi_supervised_gan_digits("quick")
    y = dataset.train[1]
    assert model.classes == len(dataset.classes) == 10
    assert y[y >= 0].bincount().tolist() == [10] * 10
    assert (y == -1).sum() == len(y) - 100
