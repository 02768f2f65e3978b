"""Draws: their distributions, how evenly they are spread, and whose generator they come from."""

import math
import subprocess
import sys

import pytest
import torch
from torch.distributions import Normal

from gentext.core import draw_noise, drawing_from, normal_like, stratified, stratified_levels

DTYPES = [torch.float32, torch.float64, torch.bfloat16]


def seeded(seed=3):
    return torch.Generator().manual_seed(seed)


# Generators


def test_distributions_draw_from_the_generator():
    def draw():
        return Normal(0.0, 1.0).sample((5,))

    torch.manual_seed(1)
    with drawing_from(seeded()):
        one = draw()
    torch.manual_seed(2)
    outside = torch.get_rng_state()
    with drawing_from(seeded()):
        two = draw()
    assert torch.equal(one, two)
    assert torch.equal(torch.get_rng_state(), outside)
    g = seeded()
    with drawing_from(g):
        first = draw()
    with drawing_from(g):
        assert not torch.equal(first, draw())


def test_without_a_generator_the_global_stream_is_drawn_from():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with drawing_from(None):
        assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    "draw",
    [normal_like, lambda x, generator: draw_noise(x, generator=generator), stratified],
    ids=["normal", "signs", "stratified"],
)
def test_a_generator_decides_and_the_global_stream_is_left_alone(draw):
    x = torch.zeros(6, 2)
    before = torch.get_rng_state()
    one, two, other = draw(x, seeded()), draw(x, generator=seeded()), draw(x, seeded(4))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


# Noise


@pytest.mark.parametrize("dtype", DTYPES)
def test_noise_has_mean_zero_and_variance_one(dtype):
    x = torch.zeros(200, 100, dtype=dtype)
    for noise in (normal_like(x), draw_noise(x), draw_noise(x, "normal")):
        assert (noise.shape, noise.dtype) == (x.shape, dtype)
        bound = 5 / math.sqrt(x.numel())
        assert abs(float(noise.double().mean())) < bound
        assert abs(float(noise.double().square().mean()) - 1) < bound * math.sqrt(2) + 1e-3


def test_signs_are_signs_and_normal_noise_is_normal():
    x = torch.zeros(20_000)
    assert draw_noise(x).unique().tolist() == [-1, 1]
    places = normal_like(x).sort().values
    expected = Normal(0.0, 1.0).cdf(places)  # Kolmogorov's distance, below 1.95/sqrt(n) in 99.9 %
    steps = torch.arange(1, len(x) + 1) / len(x)
    assert float((expected - steps).abs().max()) < 1.95 / math.sqrt(len(x))


def test_normal_noise_by_either_name_is_the_same():
    x = torch.zeros(4, 3)
    assert torch.equal(draw_noise(x, "normal", seeded()), normal_like(x, seeded()))


def test_other_noise_is_refused():
    with pytest.raises(ValueError, match="unknown noise 'pink': choose one of rademacher, normal"):
        draw_noise(torch.zeros(2), "pink")


# Evenly spread


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_one_time_falls_into_each_of_n_equal_parts(n, dtype):
    wanted = torch.promote_types(dtype, torch.float32)
    for seed in range(20):
        t = stratified(torch.zeros(n, 3, dtype=dtype), seeded(seed))
        assert (t.shape, t.dtype) == ((n,), wanted)
        assert bool(((t >= 0) & (t < 1)).all())
        t = t.double()
        gaps = (t - t[0]) * n  # whole numbers but for rounding, up to one turn
        assert float((gaps - gaps.round()).abs().max()) < 1e-4
        assert (gaps.round().long() % n).sort().values.tolist() == list(range(n))


def test_the_times_are_places_moved_by_one_draw():
    x = torch.zeros(5, dtype=torch.float64)
    u = torch.rand((), generator=seeded(), dtype=torch.float64)
    expected = [(i / 5 + float(u)) % 1 for i in range(5)]
    assert stratified(x, seeded()).tolist() == pytest.approx(expected, abs=1e-15)
    assert stratified(x, seeded(), dtype=torch.float32).dtype == torch.float32


def test_every_example_is_as_likely_at_any_time():
    g = seeded()
    draws = torch.stack([stratified(torch.zeros(3), g) for _ in range(4000)])
    counts = torch.stack([torch.histc(draws[:, i], 8, 0, 1) for i in range(3)])
    chi = ((counts - 500) ** 2 / 500).sum(1)  # of 7 degrees of freedom: below 24.3 in 99.9 %
    assert float(chi.max()) < 24.3


def test_means_over_evenly_spread_times_vary_less():
    g, n = seeded(), 16
    spread = torch.stack([stratified(torch.zeros(n), g).square().mean() for _ in range(500)])
    alone = torch.stack([torch.rand(n, generator=g).square().mean() for _ in range(500)])
    assert abs(float(spread.mean()) - 1 / 3) < 0.01
    assert float(spread.std()) < float(alone.std()) / 3


@pytest.mark.parametrize(("n", "count"), [(10, 5), (12, 4), (8, 8), (1, 3)])
def test_levels_are_drawn_equally_often(n, count):
    for seed in range(20):
        levels = stratified_levels(torch.zeros(n, 2), count, seeded(seed))
        assert (levels.shape, levels.dtype) == ((n,), torch.int64)
        counts = torch.bincount(levels, minlength=count)
        assert len(counts) == count
        assert int(counts.sum()) == n
        if n % count == 0:
            assert int((counts - n // count).abs().max()) <= 1  # a time may round to its neighbour


def test_levels_do_not_depend_on_the_precision_of_the_examples():
    x = torch.zeros(100)
    levels = [stratified_levels(x.to(dtype), 1000, seeded()) for dtype in DTYPES]
    assert all(torch.equal(levels[0], other) for other in levels[1:])


def test_the_last_level_is_not_passed(monkeypatch):
    """Where a time rounds up to 1."""
    from gentext.core import draws

    monkeypatch.setattr(draws, "stratified", lambda x, generator, dtype: torch.tensor([0.0, 1.0]))
    assert draws.stratified_levels(torch.zeros(2), 7).tolist() == [0, 6]


COMPILED = """
import torch
from gentext.core import normal_like, stratified
from gentext.denoising.masking import draw_masks
draws = [
    normal_like,
    stratified,
    lambda x: torch.stack(list(draw_masks(x, 2))),
]
for draw in draws:
    compiled = torch.compile(draw, backend="aot_eager", dynamic=True)
    for n in (5, 7):
        x = torch.ones(n, 3)
        torch.manual_seed(n)
        expected = draw(x)
        torch.manual_seed(n)
        assert compiled(x).equal(expected), draw
"""


def test_draws_are_compiled_for_shapes_that_vary():
    """In a process of its own, where no shapes are checked at run time."""
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
