"""The schedule against its formula; settings out of range."""

import math
import re

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
        ("schedule", "linear"),
        ("precision", "fp8"),
    ],
)
def test_a_setting_out_of_range_is_refused(field, value):
    with pytest.raises(
        ValueError, match=rf"got {field}={re.escape(repr(value))}; {field} must be"
    ) as error:
        TrainConfig(**{"steps": 10, field: value})
    if isinstance(value, str):
        assert "'no'" in str(error.value) or "'cosine'" in str(error.value)
