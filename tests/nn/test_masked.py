"""Masked perceptrons: what each number sees, by autograd; reading one by one against one pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gentext.nn.masked import MaskedLinear, MaskedMLP, made_masks, to_columns, unit_numbers
from gentext.nn.nets import mlp

pytestmark = pytest.mark.usefixtures("float64")
D = 5


@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("reverse", [False, True])
def test_numbers_see_the_features_before_theirs_and_but_for_the_first_the_context(
    reverse: bool, context: int
) -> None:
    net = MaskedMLP(D, (20, 30), outputs=2, context=context, reverse=reverse)
    given = torch.randn(1, context) if context else None
    jacobian = torch.func.jacrev(lambda x: net(x[None], given)[0])(torch.randn(D)).detach()
    earlier = torch.ones(D, D).bool()
    earlier = earlier.triu(1) if reverse else earlier.tril(-1)
    assert ((jacobian != 0).all(1) == earlier).all()
    assert ((jacobian != 0).any(1) == earlier).all()
    if given is not None:
        by_context = torch.func.jacrev(lambda c: net(torch.zeros(1, D), c)[0])(given)
        seen = (by_context.detach() != 0).flatten(1).unflatten(1, (2, 2))
        assert seen[net.order[1:]].all()
        assert not seen[net.order[0]].any()  # no hidden unit has a number below the first


def test_columns_are_the_numbers_of_the_same_perceptron() -> None:
    x, context = torch.randn(7, D), torch.randn(7, 2)
    masked = MaskedMLP(D, (20,), outputs=3, context=2)
    torch.testing.assert_close(masked.columns(x, context).permute(2, 1, 0), masked(x, context))
    inputs = torch.cat([x, context], 1)
    whole = masked.layers(inputs).unflatten(1, (3, D)).transpose(1, 2)
    torch.testing.assert_close(masked(x, context), whole)
    plain = mlp(D, 4, (8, 8))
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            torch.testing.assert_close(to_columns(plain, x).T, plain(x))


@pytest.mark.parametrize("hidden", [(7,), (16, 5), (5, 9, 6)])
@pytest.mark.parametrize("features", [1, 2, 6])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_reader_of_one_feature_after_the_other_knows_what_one_pass_knows(
    features: int, hidden: tuple[int, ...], reverse: bool
) -> None:
    net = MaskedMLP(features, hidden, outputs=2, context=3, reverse=reverse)
    x, context = torch.randn(4, features), torch.randn(4, 3)
    whole, gradients = net(x, context), []
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            reader, read = net.read(4, context), []
            for d in net.order:
                read.append(reader.parameters().T)
                torch.testing.assert_close(read[-1], whole[:, d], atol=1e-12, rtol=0)
                reader.add(x[:, d])
        if grad:
            for result in (torch.stack(read, 1), whole[:, net.order]):
                weights = torch.arange(result.numel()).view_as(result).cos()
                out = torch.autograd.grad(
                    (weights * result).sum(), [*net.parameters()], materialize_grads=True
                )
                gradients.append(out)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("features", [2, 3, 6])
def test_units_are_numbered_from_one_to_the_last_feature_but_one_in_turn(features: int) -> None:
    counts = unit_numbers(3 * (features - 1), features).bincount()
    assert counts.tolist() == [0, *[3] * (features - 1)]


def test_masks_join_layers_of_the_given_sizes() -> None:
    masks = made_masks(D, (8, 9), 3)
    assert [tuple(mask.shape) for mask in masks] == [(8, D), (9, 8), (3 * D, 9)]
    layer = MaskedLinear(masks[0])
    x = torch.randn(2, D)
    torch.testing.assert_close(layer(x), x @ (masks[0] * layer.weight).T + layer.bias)


def test_dropout_stands_after_each_activation() -> None:
    net = MaskedMLP(D, (8, 9), outputs=1, dropout=0.4)
    kinds = [type(layer) for layer in net.layers]
    assert kinds == [MaskedLinear, *[nn.SiLU, nn.Dropout, MaskedLinear] * 2]
    assert "layers.0.mask" not in net.state_dict()


def test_one_feature_has_a_constant_probability() -> None:
    net = MaskedMLP(1, (4,), outputs=3)
    assert (net(torch.rand(5, 1)) == net(torch.zeros(1, 1))).all()


def test_perceptrons_that_cannot_be_masked_are_refused() -> None:
    with pytest.raises(ValueError, match=r"hidden=\(\).*at least one layer"):
        MaskedMLP(D, (), outputs=1)
    with pytest.raises(ValueError, match=r"dropout=1\.0"):
        MaskedMLP(D, (4,), outputs=1, dropout=1.0)
