"""Experiments with flows: in the plane, of a table, of images."""

from __future__ import annotations

import pytest
import torch

from gentext import data, recipes


def test_points_of_the_plane_are_fresh_and_so_many_that_none_is_learned_by_heart() -> None:
    for name, toy in (("nsf_moons", "two-moons"), ("realnvp_gaussians", "eight-gaussians")):
        model, dataset, _ = recipes.build(name, "quick")
        assert dataset.name == toy
        assert dataset.train[0].shape == (200_000, 2)
        assert dataset.test[0].equal(data.load(toy).test[0])
        assert model.sample(3).shape == (3, 2)


def test_the_table_is_standardised() -> None:
    model, dataset, config = recipes.maf_shuttle("quick")
    std, mean = torch.std_mean(dataset.train[0], 0)
    torch.testing.assert_close(mean, torch.zeros(9), atol=1e-4, rtol=0)
    torch.testing.assert_close(std, torch.ones(9), atol=1e-4, rtol=0)
    other = recipes.nsf_shuttle("quick")
    assert model.arguments["features"] == other[0].arguments["features"] == 9
    assert other[2].lr == config.lr
    assert other[1].test[0].equal(dataset.test[0])


@pytest.mark.parametrize("flow", ["realnvp", "maf", "nsf"])
def test_flows_of_digits_differ_in_their_transforms_only(flow: str) -> None:
    model, dataset, config = recipes.build(f"{flow}_digits", "quick")
    assert model.arguments["flow"] == flow
    assert model.arguments["levels"] == dataset.levels == 17
    assert config == recipes.nsf_digits("quick")[2]


def test_noise_that_is_learned_is_all_that_the_variational_flow_adds() -> None:
    plain, variational = (
        recipes.build(name, "full") for name in ("nsf_digits", "nsf_variational_digits")
    )
    assert variational[0].arguments == {**plain[0].arguments, "noise": "variational"}
    assert variational[2] == plain[2]
