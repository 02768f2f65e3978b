"""Memory, idle time and traffic, counted out."""

from __future__ import annotations

import pytest
import torch

from gentext.transfer.parallelism import (
    pipeline_idle,
    pipeline_schedule,
    ring_all_reduce,
    training_bytes,
)


@pytest.mark.equation("eq-pre-memory")
def test_bytes_are_those_of_the_tensors_that_training_holds():
    """Weights and gradients in half precision; a copy in single precision with Adam's state."""
    half = torch.nn.Linear(30, 7).bfloat16()
    half(torch.ones(1, 30).bfloat16()).sum().backward()
    copy = [torch.nn.Parameter(p.detach().float()) for p in half.parameters()]
    adam = torch.optim.AdamW(copy)
    for parameter, p in zip(copy, half.parameters(), strict=True):
        parameter.grad = p.grad.float()
    adam.step()
    state = [s[name] for s in adam.state.values() for name in ("exp_avg", "exp_avg_sq")]
    parts = [*half.parameters(), *(p.grad for p in half.parameters()), *copy, *state]
    held = sum(t.numel() * t.element_size() for t in parts)
    assert training_bytes(30 * 7 + 7) == held


@pytest.mark.equation("eq-pre-memory")
def test_what_is_sharded_adds_up_to_one_copy_over_all_devices():
    whole = training_bytes(1000)
    assert training_bytes(1000, 8, "weights") * 8 == whole
    assert training_bytes(1000, 8, "gradients") * 8 == whole + 7 * 2000
    assert training_bytes(1000, 8, "optimizer") * 8 == whole + 7 * 4000
    assert training_bytes(1000, 8) * 8 == 8 * whole


@pytest.mark.equation("eq-pre-bubble")
@pytest.mark.parametrize(("stages", "parts"), [(1, 3), (2, 1), (4, 8), (3, 2)])
def test_idle_time_is_what_the_schedule_leaves_empty(stages, parts):
    schedule = pipeline_schedule(stages, parts)
    assert float((schedule < 0).double().mean()) == pytest.approx(pipeline_idle(stages, parts))


@pytest.mark.equation("eq-pre-bubble")
def test_no_part_is_anywhere_before_it_can_be():
    stages, parts = 4, 5
    schedule = pipeline_schedule(stages, parts)
    when = {(s, int(k)): t for s in range(stages) for t, k in enumerate(schedule[s]) if k >= 0}
    assert len(when) == stages * 2 * parts  # each stage works on each part once in each direction
    for k in range(parts):
        for s in range(1, stages):
            assert when[s, k] > when[s - 1, k]
            assert when[s - 1, parts + k] > when[s, parts + k]
        assert when[stages - 1, parts + k] > when[stages - 1, k]


@pytest.mark.parametrize("devices", [1, 2, 3, 5])
@pytest.mark.parametrize("n", [30, 7])
def test_the_ring_gives_all_devices_the_sum(devices, n):
    vectors = [torch.randn(n, dtype=torch.float64) for _ in range(devices)]
    given = [vector.clone() for vector in vectors]
    sums, sent = ring_all_reduce(vectors)
    assert len(sums) == devices
    for vector in sums:
        torch.testing.assert_close(vector, torch.stack(given).sum(0), rtol=1e-12, atol=1e-12)
    assert sent == pytest.approx(2 * n * (devices - 1) / devices)
    assert all(map(torch.equal, vectors, given))


def test_errors_say_what_is_allowed():
    with pytest.raises(ValueError, match="optimizer"):
        training_bytes(10, 2, "everything")
    with pytest.raises(ValueError, match="alike"):
        ring_all_reduce([torch.ones(2), torch.ones(3)])
    with pytest.raises(ValueError, match="stages"):
        pipeline_idle(0, 1)
