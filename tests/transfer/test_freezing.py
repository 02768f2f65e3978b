"""Freezing against all that training can change: weights, running means, codebooks, dropout."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gentext.transfer.freezing import freeze, learn_only, unfreeze


def network() -> nn.Sequential:
    """With everything that has a state of its own in training mode."""
    return nn.Sequential(
        spectral_norm(nn.Linear(4, 6)),
        nn.BatchNorm1d(6),
        nn.Dropout(0.5),
        nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)),
    )


def trained(model: nn.Module, steps: int = 3) -> dict[str, Tensor]:
    """The state after some steps with weight decay and momentum."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(steps):
        model.train()
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
    return model.state_dict()


def test_what_is_frozen_does_not_change_by_one_bit() -> None:
    model = nn.Sequential(network(), nn.Linear(6, 2), nn.BatchNorm1d(2))
    freeze(model[0])
    before = copy.deepcopy(model.state_dict())
    after = trained(model)
    for name, value in before.items():
        assert value.equal(after[name]) == name.startswith("0."), name
    x = torch.randn(5, 4)
    assert model.train()[0](x).equal(model[0](x))  # without dropout


def test_modes_of_the_model_around_it_do_not_reach_it() -> None:
    model = nn.Sequential(network(), nn.Dropout())
    freeze(model[0])
    for mode in (True, False, True):
        model.train(mode)
        assert [part.training for part in model] == [False, mode]
        assert not any(part.training for part in model[0].modules())


def test_a_part_of_what_is_frozen_may_learn() -> None:
    """As in gradual unfreezing, from the last layer down."""
    model = freeze(network())
    unfreeze(model[3])
    before = copy.deepcopy(model.state_dict())
    after = trained(model)
    assert [part.training for part in model] == [False, False, False, True]
    for name, value in before.items():
        assert value.equal(after[name]) == (not name.startswith("3.")), name


def test_what_is_unfrozen_is_as_it_was() -> None:
    torch.manual_seed(1)
    plain, other = network(), network()
    other.load_state_dict(plain.state_dict())
    unfreeze(freeze(other))
    states = []
    for model in (plain, other):
        torch.manual_seed(2)
        states.append(trained(model))
    assert all(value.equal(states[1][name]) for name, value in states[0].items())


def test_a_copy_is_frozen_by_itself() -> None:
    model = freeze(network())
    twin = copy.deepcopy(model)
    unfreeze(model).train()
    twin.train()
    assert all(part.training for part in model.modules())
    assert not any(part.training for part in twin.modules())


def test_what_is_outside_of_the_parts_does_not_learn_nor_what_did_not_before() -> None:
    model = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    model[1].requires_grad_(False)
    learn_only(model, model[:2])
    assert [p.requires_grad for p in model.parameters()] == [True, True, *[False] * 4]
