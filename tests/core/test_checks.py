"""What is refused, with which words, and where values are not looked at."""

import math
import re

import numpy as np
import pytest
import torch

from gentext import core
from gentext.core import chosen

NAN, INF = math.nan, math.inf
TABLE = {"cosine": 1, "linear": 2}


def refused(words, check, *args, error=ValueError, **how):
    with pytest.raises(error, match=re.escape(words)):
        check(*args, **how)


# Names


def test_a_name_is_looked_up_in_a_table_or_found_in_a_list():
    assert chosen("schedule", "linear", TABLE) == 2
    assert chosen("schedule", "linear", ["cosine", "linear"]) == "linear"


@pytest.mark.parametrize("table", [TABLE, list(TABLE), tuple(TABLE)])
def test_an_unknown_name_is_told_all_and_the_nearest(table):
    with pytest.raises(ValueError, match="schedule") as error:
        chosen("schedule", "linaer", table)
    assert str(error.value) == (
        "unknown schedule 'linaer': did you mean 'linear'? choose one of cosine, linear"
    )
    refused("unknown schedule 'x': choose one of cosine, linear", chosen, "schedule", "x", table)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("gpt_e", "did you mean 'gpt_d' or 'gpt_c' or 'gpt_b'? "),
        ("gpt", "did you mean 'gpt_d' or 'gpt_c' or 'gpt_b'? "),
        ("bert_large_c", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_of_many_names_only_the_nearest_are_told(name, near):
    table = [f"{kind}_{data}" for kind in ("gpt", "vae", "gan") for data in "abcde"]
    table.remove("gpt_e")
    unknown = f"unknown recipe {name!r}: {near}"
    refused(f"{unknown}see `list` for all 14", chosen, "recipe", name, table, "`list`")
    some = "there are 14, such as gpt_a, gpt_b, gpt_c"
    refused(f"{unknown}{some}", chosen, "recipe", name, table)


def test_the_end_of_a_long_name_is_told_as_well():
    table = [f"autoregressive_{letter}" for letter in "abcdefghijklm"]
    refused("did you mean 'autoregressive_a' or", chosen, "recipe", "auto", table)
    refused("did you mean 'autoregressive_m'? ", chosen, "recipe", "_m", table)


@pytest.mark.parametrize("name", [None, 3, ("cosine",), ["cosine"]])
def test_what_is_no_name_is_unknown(name):
    refused(f"unknown schedule {name!r}: choose one of", chosen, "schedule", name, TABLE)


# Numbers


@pytest.mark.parametrize("number", [1, 7, np.int64(3)])
def test_whole_numbers_are_counts(number):
    core.check_count("layers", number)
    core.check_counts(layers=number, heads=1)


@pytest.mark.parametrize("number", [0, -1, 1.0, 2.5, True, "3", None, NAN])
def test_anything_else_is_none(number):
    words = f"got layers={number!r}; layers must be a whole number, at least 1"
    refused(words, core.check_count, "layers", number)
    refused(words, core.check_counts, heads=1, layers=number)


def test_counts_have_a_least_of_their_own():
    core.check_count("classes", 0, 0)
    core.check_counts(0, classes=0, attributes=5)
    refused("classes must be a whole number, at least 2", core.check_count, "classes", 1, 2)
    refused("at least 2", core.check_counts, 2, classes=2, attributes=1)


def test_dropout_is_below_one():
    core.check_dropout(0.0)
    core.check_dropout(0.9)
    for dropout in (-0.1, 1.0, NAN):
        refused(f"got dropout={dropout}; dropout must be", core.check_dropout, dropout)


def test_heads_divide_the_width_and_rotary_ones_are_even():
    core.check_heads(12, 4)
    core.check_heads(12, 3, rotary=True)
    for width, heads in ((12, 5), (0, 1), (12, 0), (12, -3)):
        refused("the same number each", core.check_heads, width, heads)
    refused("an even number each", core.check_heads, 12, 4, rotary=True)


# Values


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_one_value_that_is_not_finite_is_found(value, dtype):
    x = torch.randn(4, 5).to(dtype)
    assert core.is_finite(x)
    core.check_finite(x, "velocities at t=0.5", "take more steps")
    x[2, 3] = value
    assert not core.is_finite(x)
    words = "got NaN or infinite velocities at t=0.5: take more steps"
    how = ("velocities at t=0.5", "take more steps")
    refused(words, core.check_finite, x, *how, error=FloatingPointError)
    refused(words, core.check_finite, x, *how, ValueError)


def test_whole_numbers_and_nothing_are_finite():
    assert core.is_finite(torch.arange(3))
    assert core.is_finite(torch.zeros(0, 3))
    assert core.is_finite(torch.ones(2, requires_grad=True))


def test_values_elsewhere_are_not_looked_at(monkeypatch):
    x = torch.full((2, 3), NAN)
    assert core.at_hand(x)
    assert not core.at_hand(x.to("meta"))
    core.check_finite(x.to("meta"), "values", "do something")
    core.check_examples(x.to("meta"), (3,))
    core.check_labels(torch.tensor([9]).to("meta"), 1, 3)
    core.check_tokens(torch.tensor([[9]]).to("meta"), 3)
    core.grey_levels(x.to("meta"), 4)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not core.at_hand(x)
    core.check_finite(x, "values", "do something")
    core.check_examples(x, (3,))
    core.check_labels(torch.tensor([9]), 1, 3)
    core.check_tokens(torch.tensor([[9]]), 3)


def test_examples_have_the_shape_and_the_range_of_the_model():
    x = torch.rand(4, 2, 3)
    core.check_examples(x, (2, 3), 0.0, 1.0)
    core.check_examples(x - 0.5, (2, 3))
    for bad in (x[0], x[:0], x.flatten(1), x[:, :1]):
        refused("but this model was built for (n, 2, 3)", core.check_examples, bad, (2, 3))
    refused("torch.int64, but they must be floating", core.check_examples, x.long(), (2, 3))
    refused("from -1 to -1, but this model needs them in [0, 1]", core.check_examples,
            torch.full((4, 2), -1.0), (2,), 0.0, 1.0)  # fmt: skip
    refused("in [0, 1]: scale the data", core.check_examples, x + 1, (2, 3), 0.0, 1.0)
    x[1, 1, 1] = NAN
    refused("got NaN or infinite values in the data", core.check_examples, x, (2, 3))
    refused("got NaN or infinite", core.check_examples, torch.full((1, 1), INF), (1,))


def test_labels_are_indices_of_classes():
    y = torch.tensor([0, 2, 1])
    core.check_labels(y, 3, 3)
    core.check_labels(y - 1, 3, 3, least=-1)
    for kind in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
        made = core.check_labels(y.to(kind), 3, 3)
        assert made.dtype == torch.int64
        assert made.equal(y)
    assert core.check_labels(y, 3, 3) is y
    for bad in (y[:2], y[:, None]):
        refused("but 3 examples need 3 integers of shape (3,)", core.check_labels, bad, 3, 3)
    for bad in (y.float(), y > 0, y.to(torch.complex64)):
        refused("but they must be integers: labels.long()", core.check_labels, bad, 3, 3)
    refused("got label 2, but this model was built for 2", core.check_labels, y, 3, 2)
    refused("got label -1, but", core.check_labels, y - 1, 3, 3)
    refused("labels run from -1 to 2", core.check_labels, y - 2, 3, 3, least=-1)


def test_tokens_are_rows_of_numbers_of_the_vocabulary():
    tokens = torch.tensor([[0, 4, 1], [2, 2, 3]])
    for kind in (torch.int64, torch.int32, torch.uint8):
        made = core.check_tokens(tokens.to(kind), 5)
        assert made.dtype == torch.int64
        assert made.equal(tokens)
    core.check_tokens(tokens, 5, least=1, most=3)
    core.check_tokens(tokens[:0], 5)
    core.check_tokens(tokens[:, :0], 5)
    for bad in (tokens.float(), tokens > 1):
        refused("but they must be integers: tokens.long()", core.check_tokens, bad, 5)
    for bad in (tokens[0], tokens[None]):
        refused("but they must be of shape (n, t)", core.check_tokens, bad, 5)
    refused("got 0 rows of 3 tokens", core.check_tokens, tokens[:0], 5, rows=1)
    refused("got tokens from 0 to 4, but this vocabulary is 0 to 3", core.check_tokens, tokens, 4)
    refused("got source from -1 to 3, but", core.check_tokens, tokens - 1, 5, what="source")
    reads = "got 2 rows of 3 tokens, but this model reads"
    refused(f"{reads} 0 to 2: cut them", core.check_tokens, tokens, 5, most=2)
    refused(f"{reads} at least 4: cut them", core.check_tokens, tokens, 5, least=4)


@pytest.mark.parametrize("levels", [2, 3, 16, 256])
def test_grey_levels_are_counted_from_their_fractions(levels):
    k = torch.arange(levels)
    x = k / (levels - 1)
    assert torch.equal(core.grey_levels(x, levels), k.float())
    assert torch.equal(core.grey_levels(x.double(), levels), k.double())


def test_what_are_no_grey_levels_is_refused():
    for x in (
        torch.tensor([0.4]),
        torch.tensor([NAN]),
        torch.tensor([4 / 3]),
        torch.tensor([-1.0]),
    ):
        refused("these are not grey values k/3, k = 0 to 3", core.grey_levels, x, 4)
    refused("torch.int64; give floats in [0, 1]: x / 3", core.grey_levels, torch.tensor([3]), 4)
    for levels in (1, 0, -4):
        words = f"got levels={levels}; levels must be a whole number, at least 2"
        refused(words, core.check_grey_levels, levels)
        refused(words, core.grey_levels, torch.zeros(1), levels)


@pytest.mark.parametrize(
    ("bounds", "allowed", "fitting", "others"),
    [
        ({"above": 0}, "above 0", (1e-300, 1, 7.5), (0, 0.0, -1)),
        ({"least": 0, "below": 1}, "at least 0 and below 1", (0, 0.0, 0.999), (1, 1.0, -1e-9)),
        ({"least": 0, "most": 1}, "at least 0 and at most 1", (0, 1, 0.5), (1.001, 2)),
        ({}, "a finite number", (-1e300, 0, 3), ()),
    ],
)
def test_numbers_are_finite_and_within_bounds(bounds, allowed, fitting, others):
    for number in (*fitting, *map(np.float64, fitting)):
        core.check_number("eta", number, **bounds)
    for number in (*others, NAN, INF, -INF, True, None, "1", 1j, torch.ones(2)):
        refused(f"got eta={number!r}; eta must be {allowed}", core.check_number, "eta", number,
                **bounds)  # fmt: skip


def test_a_shape_is_a_row_of_sides():
    assert core.check_shape([1, 28, 28]) == (1, 28, 28)
    assert core.check_shape((3,)) == (3,)
    for bad in ((), 28, "28", None):
        refused(f"got shape={bad!r}; give the sides", core.check_shape, bad)
    for bad in ((0, 2), (2, -1), (1.5,), (True,)):
        refused("side must be a whole number, at least 1", core.check_shape, bad)


def test_masks_are_true_or_false_or_their_numbers():
    mask = torch.tensor([True, False, True])
    assert core.true_or_false(mask) is mask
    for kind in (torch.uint8, torch.int64, torch.float32, torch.float64):
        assert core.true_or_false(mask.to(kind)).equal(mask)
    for bad in (torch.tensor([0.0, 0.5]), torch.tensor([0, 255]), torch.tensor([NAN])):
        refused("got a mask with other values than True and False", core.true_or_false, bad)
    with torch.device("meta"):
        assert core.true_or_false(torch.empty(2)).dtype == torch.bool


def test_tensors_are_asked_for_by_name():
    for given in ([0.0], np.zeros(2), {"x": 1}, None):
        words = f"got examples as {type(given).__name__}; give a tensor"
        refused(words, core.check_tensor, given, "examples")
