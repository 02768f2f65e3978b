"""What a model keeps of its arguments, and what calling it does."""

import copy
import inspect
from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from gentext.core import Model, plain


class Named(Model):
    def __init__(self, *, shape, latent=4, **options):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def loss(self, x, y=0.0):
        return (self.weight * x + y).mean()

    def penalty(self, x):
        return self.weight.square() + 0 * x.mean()


class Placed(Model):
    def __init__(self, net, schedule="cosine", *, steps=10):
        super().__init__()
        self.net = net


def test_the_arguments_are_what_was_given_and_no_defaults():
    assert Named(shape=(1, 2)).arguments == {"shape": (1, 2)}
    assert Named(shape=[3], latent=5, wide=True).arguments == {
        "shape": [3],
        "latent": 5,
        "wide": True,
    }


def test_arguments_without_a_name_are_kept_by_name():
    net = nn.Linear(1, 1)
    assert Placed(net, "linear", steps=3).arguments == {
        "net": net,
        "schedule": "linear",
        "steps": 3,
    }
    assert Placed(net).arguments == {"net": net}
    model = Placed(net, "linear")
    assert Placed(**model.arguments).arguments == model.arguments


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Named((1, 2), 5),
            r"Named got 2 arguments without a name, and takes 0 so: give keywords, "
            r"Named\(shape=..., latent=...\)",
        ),
        (lambda: Placed(1, 2, 3), r"Placed got 3 arguments without a name, and takes 2 so"),
        (lambda: Placed(1, net=2), "multiple values for argument 'net'"),
        (Named, "missing 1 required keyword-only argument: 'shape'"),
    ],
)
def test_arguments_that_have_no_place_are_refused(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_numbers_of_numpy_become_those_of_python():
    given = {"shape": (np.int64(1), 2), "latent": np.int32(4), "scales": [np.float32(0.5)]}
    arguments = Named(**given, name=np.str_("a"), on=np.bool_(True)).arguments
    assert arguments == {
        "shape": (1, 2),
        "latent": 4,
        "scales": [0.5],
        "name": "a",
        "on": True,
    }
    kinds = [type(v) for v in (*arguments["shape"], arguments["latent"], *arguments["scales"])]
    assert kinds == [int, int, int, float]
    assert type(arguments["on"]) is bool


class Pair(NamedTuple):
    a: float
    b: tuple[int, ...]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.Size([2, 3]), (2, 3)),
        (np.array([2, 3]), (2, 3)),
        (np.array(2.5), 2.5),
        (torch.tensor(3), 3),
        (torch.tensor(0.5), 0.5),
        ({"r1": np.float64(0.1), "r2": [np.int8(1)]}, {"r1": 0.1, "r2": [1]}),
        (Pair(np.float64(0.5), torch.Size([1])), Pair(0.5, (1,))),
        ((), ()),
    ],
)
def test_numbers_of_other_libraries_are_plain_wherever_they_stand(given, expected):
    made = plain(given)
    assert made == expected
    assert repr(made) == repr(expected)
    assert Named(shape=given).arguments == {"shape": expected}


def test_the_constructor_itself_sees_plain_numbers():
    class Noting(Named):
        def __init__(self, scale, **options):
            super().__init__(**options)
            self.seen = scale, options

    model = Noting(np.float64(0.5), shape=torch.Size([2]))
    assert repr(model.seen) == "(0.5, {'shape': (2,)})"


def test_all_else_is_kept_as_it_is():
    nets = (nn.Linear(1, 1), nn.Linear(1, 1))
    learned, table = nn.Parameter(torch.tensor(0.5)), torch.eye(2)
    given = {"nets": nets, "learned": learned, "table": table, "grid": np.eye(2)}
    arguments = Named(shape=[2], **given).arguments
    assert all(arguments[name] is given[name] for name in ("learned", "table", "grid"))
    assert all(a is b for a, b in zip(arguments["nets"], nets, strict=True))


def test_the_signature_is_that_of_the_constructor():
    assert list(inspect.signature(Named).parameters) == ["shape", "latent", "options"]


def test_a_copy_has_the_same_arguments_and_weights():
    model = Named(shape=(2,))
    twin = copy.deepcopy(model)
    assert twin.arguments == model.arguments
    assert twin.arguments is not model.arguments
    assert torch.equal(twin.weight, model.weight)


def test_a_call_is_the_loss_of_a_turn():
    model, x = Named(shape=()).requires_grad_(False), torch.tensor([1.0, 3.0])
    assert float(model(x)) == 4.0
    assert float(model(x, torch.tensor(1.0))) == 5.0
    assert float(model(x, turn="penalty")) == 4.0


def test_most_models_have_one_turn_due_in_each_step_of_which_all_is_averaged():
    model = Named(shape=())
    assert {turn: list(ps) for turn, ps in model.turns().items()} == {"loss": [model.weight]}
    assert all(model.due("loss", step) for step in range(5))
    assert list(model.averaged()) == [model.weight]
    assert model.check(torch.ones(2)) is None


def test_collections_of_a_kind_of_their_own_reach_a_constructor_as_they_are() -> None:
    class Counts(Model):
        def __init__(self, counts: Counter[str]) -> None:
            super().__init__()
            self.missing = counts["b"]

    assert Counts(Counter("aa")).missing == 0
