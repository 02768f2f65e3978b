"""The schedule against its formula; settings out of range."""

import dataclasses
import json
import math
import re

import numpy as np
import pytest
from models_to_train import unchecked  # noqa: F401

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
        ("save_minutes", 0.0),
        ("save_minutes", math.nan),
        ("weight_decay", -0.1),
        ("weight_decay", math.inf),
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


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("field", "value"),
    [("lr", True), ("lr", "1e-3"), ("warmup", 0.1), ("seed", 0.5), ("seed", None), ("ema", "no")],
)
def test_a_setting_of_another_kind_is_refused(field, value):
    test_a_setting_out_of_range_is_refused(field, value)


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


def test_a_schedule_that_begins_anew_is_one_of_the_steps_that_remain():
    config = TrainConfig(steps=50, lr=2.0, warmup=5, schedule="cosine")
    anew = TrainConfig(steps=30, lr=2.0, warmup=5, schedule="cosine")
    for step in range(31):
        assert learning_rate(20 + step, config, begun=20) == learning_rate(step, anew)


@pytest.mark.usefixtures("unchecked")
def test_numbers_of_numpy_become_numbers():
    numbers = {"steps": np.int64(10), "lr": np.float64(0.1), "seed": np.int32(4)}
    numbers |= {"betas": np.array([0.5, 0.9]), "ema": np.float64(0.5), "clip": np.float64(2)}
    numbers |= {"compile": np.bool_(False), "save_minutes": np.float64(0.5)}
    plain = {"steps": 10, "lr": 0.1, "seed": 4, "betas": (0.5, 0.9), "ema": 0.5, "clip": 2.0}
    plain |= {"compile": False, "save_minutes": 0.5}
    config = TrainConfig(**numbers)
    assert config == TrainConfig(**plain)
    assert json.loads(json.dumps(dataclasses.asdict(config))).items() >= {"seed": 4}.items()
    assert all(type(getattr(config, name)) is type(value) for name, value in plain.items())
    pair = TrainConfig(steps=1, betas=[np.float64(0.5), 0.9])
    assert [type(beta) for beta in pair.betas] == [float, float]


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
