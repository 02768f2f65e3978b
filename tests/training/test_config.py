"""The schedule against its formula; settings out of range."""

import dataclasses
import json
import math
import re

import numpy as np
import pytest

from gentext.training.config import TrainConfig, learning_rate


def test_schedule_is_linear_then_half_a_cosine():
    config = TrainConfig(steps=110, lr=2.0, warmup=10, schedule="cosine")
    assert [learning_rate(s, config) for s in range(10)] == pytest.approx(
        [0.2 * (s + 1) for s in range(10)]
    )
    for step in (10, 35, 60, 85, 110):
        angle = math.pi * (step - 10) / 100
        assert learning_rate(step, config) == pytest.approx(2 * math.cos(angle / 2) ** 2)
    constant = TrainConfig(steps=110, lr=2.0, warmup=10)
    assert {learning_rate(s, constant) for s in range(10, 110)} == {2.0}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("save_every", 0),
        ("lr", 0.0),
        ("lr", math.nan),
        ("lr", math.inf),
        ("warmup", -1),
        ("weight_decay", -0.1),
        ("clip", 0.0),
        ("ema", 1.0),
        ("betas", (0.9, 1.0)),
        ("betas", (-0.1, 0.9)),
        ("betas", (0.9,)),
        ("betas", (0.5, 0.9, 0.99)),
    ],
)
def test_a_setting_out_of_range_is_refused(field, value):
    with pytest.raises(ValueError, match=rf"got {field}={re.escape(repr(value))}; {field} must be"):
        TrainConfig(**{"steps": 10, field: value})


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [
        ("schedule", "cosin", "did you mean 'cosine'? choose one of constant, cosine"),
        ("schedule", "linear", "choose one of constant, cosine"),
        ("precision", "fp8", "choose one of no, fp16, bf16"),
    ],
)
def test_an_unknown_name_is_refused(field, value, remedy):
    with pytest.raises(ValueError, match=f"unknown {field} '{value}': .*{re.escape(remedy)}"):
        TrainConfig(**{"steps": 10, field: value})


def test_a_config_holds_what_was_given_and_cannot_be_changed():
    config = TrainConfig(steps=10, betas=[0.5, 0.9])
    assert config.betas == (0.5, 0.9)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.steps = 11


def test_numbers_of_numpy_are_those_of_python():
    given = {"steps": np.int64(3), "lr": np.float64(0.5), "ema": np.float32(0.5)}
    config = TrainConfig(**given, betas=np.array([0.5, 0.75]), compile=np.bool_(False))
    plain = TrainConfig(steps=3, lr=0.5, ema=0.5, betas=(0.5, 0.75))
    assert repr(config) == repr(plain)
    assert json.dumps(dataclasses.asdict(config)) == json.dumps(dataclasses.asdict(plain))
