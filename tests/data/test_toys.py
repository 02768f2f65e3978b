"""Toy distributions: their densities against integration, counting and quadrature."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from gentext import data, toys

SPAN = 6.0


def grid(cells: int) -> tuple[torch.Tensor, float]:
    """The midpoints of cells x cells squares that tile [-6, 6] x [-6, 6], and their area."""
    side = 2 * SPAN / cells
    line = -SPAN + side * (torch.arange(cells, dtype=torch.float64) + 0.5)
    return torch.cartesian_prod(line, line), side**2


def draw(name: str, n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return toys.sample(name, n, generator=torch.Generator().manual_seed(seed))


def density(name: str) -> tuple[torch.Tensor, float]:
    """The density on a grid of at least 144 x 144 squares, finer for narrow ones."""
    points, area = grid(288 if name in ("grid25", "pinwheel") else 144)
    return torch.cat([toys.log_prob(name, part).exp() for part in points.split(8192)]), area


@pytest.mark.parametrize("name", toys.names())
def test_density_integrates_to_one(name):
    p, area = density(name)
    assert p.sum().item() * area == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("name", toys.names())
def test_samples_follow_the_density(name):
    # Chi-squared test of the counts in 24 x 24 squares against the integral of the density.
    n, coarse = 20_000, 24
    p, area = density(name)
    fine = math.isqrt(len(p)) // coarse
    expected = n * area * p.view(coarse, fine, coarse, fine).sum((1, 3)).ravel().numpy()
    x, _ = draw(name, n)
    edges = np.linspace(-SPAN, SPAN, coarse + 1)
    counts = np.histogram2d(x[:, 0].numpy(), x[:, 1].numpy(), bins=[edges, edges])[0].ravel()
    filled = expected >= 5
    observed = np.append(counts[filled], counts[~filled].sum())
    wanted = np.append(expected[filled], expected[~filled].sum())
    observed, wanted = observed[wanted > 1e-6], wanted[wanted > 1e-6]
    assert stats.chisquare(observed, wanted * n / wanted.sum()).pvalue > 1e-3


@pytest.mark.parametrize("name", toys.names())
def test_mean_log_density_of_samples_is_minus_the_entropy(name):
    p, area = density(name)
    entropy = -torch.xlogy(p, p).sum().item() * area
    log_p = toys.log_prob(name, draw(name, 20_000)[0].double())
    error = 4 * log_p.std().item() / math.sqrt(len(log_p))
    assert log_p.mean().item() == pytest.approx(-entropy, abs=error + 1e-6)


def moon(t: float) -> tuple[float, float]:
    return 2 * math.cos(t) - 1, 2 * math.sin(t) - 0.5


def roll(t: float) -> tuple[float, float]:
    return t * math.cos(t) / 4, t * math.sin(t) / 4


def along(curve, low: float, high: float, x: torch.Tensor, noise: float) -> float:
    """The density of a uniform point of a curve with Gaussian noise, by adaptive quadrature."""

    def normal(t: float) -> float:
        a, b = curve(t)
        r = (x[0].item() - a) ** 2 + (x[1].item() - b) ** 2
        return math.exp(-r / (2 * noise**2)) / (2 * math.pi * noise**2)

    value, _ = integrate.quad(normal, low, high, epsabs=1e-13, epsrel=1e-12, limit=500)
    return value / (high - low)


def test_curves_agree_with_adaptive_quadrature():
    points = draw("two-moons", 20, seed=5)[0].double()
    # The second moon is the first turned by half a turn about the origin.
    moons = [
        (along(moon, 0, math.pi, x, 0.2) + along(moon, 0, math.pi, -x, 0.2)) / 2 for x in points
    ]
    torch.testing.assert_close(
        toys.log_prob("two-moons", points).exp(),
        torch.tensor(moons, dtype=torch.float64),
        rtol=1e-8,
        atol=0,
    )
    points = draw("swiss-roll", 20, seed=5)[0].double()
    rolls = [along(roll, 1.5 * math.pi, 4.5 * math.pi, x, 0.2) for x in points]
    torch.testing.assert_close(
        toys.log_prob("swiss-roll", points).exp(),
        torch.tensor(rolls, dtype=torch.float64),
        rtol=1e-8,
        atol=0,
    )


@pytest.mark.parametrize("name", ["eight-gaussians", "grid25"])
def test_labels_name_the_mode_nearest_to_the_point(name):
    x, label = draw(name, 2000)
    modes = toys.modes(name)
    assert toys.classes(name) == len(modes)
    nearest = torch.cdist(x.double(), modes).argmin(1)
    assert (nearest == label).float().mean() > 0.99
    assert label.unique().tolist() == list(range(len(modes)))


def test_labels_of_moons_and_arms_tell_them_apart():
    x, moon_label = draw("two-moons", 2000)
    upper = torch.tensor([along(moon, 0, math.pi, p, 0.2) for p in x[:200]])
    lower = torch.tensor([along(moon, 0, math.pi, -p, 0.2) for p in x[:200]])
    assert ((lower > upper) == (moon_label[:200] == 1)).float().mean() > 0.97
    x, arm = draw("pinwheel", 2000)
    turn = torch.polar(torch.ones(2000), -arm * 2 * math.pi / 5)
    together = torch.view_as_real(torch.complex(x[:, 0], x[:, 1]) * turn)
    centres = torch.stack([together[arm == k].mean(0) for k in range(5)])
    assert (centres - centres.mean(0)).norm(dim=1).max() < 0.15  # the arms are one arm, turned


@pytest.mark.parametrize("name", toys.names())
def test_loading_is_deterministic_and_the_splits_are_independent(name):
    first, second = data.load(name), data.load(name)
    assert torch.equal(first.train[0], second.train[0])
    assert [len(s[0]) for s in (first.train, first.validation, first.test)] == [10000, 2000, 2000]
    assert first.train[0].dtype == torch.float32
    assert first.train[0].abs().max() < SPAN
    assert not torch.equal(first.validation[0], first.test[0])
    assert not torch.equal(first.train[0][:2000], first.test[0])
    assert len(first.train) == (2 if first.classes else 1)
    assert toys.classes(name) == len(first.classes)


def test_float32_densities_agree_with_float64():
    for name in toys.names():
        x = draw(name, 500)[0]
        exact = toys.log_prob(name, x.double())
        assert toys.log_prob(name, x).dtype == torch.float32
        torch.testing.assert_close(toys.log_prob(name, x).double(), exact, rtol=1e-4, atol=1e-3)


def test_outside_its_squares_the_checkerboard_has_no_density():
    x = torch.tensor([[-1.0, 1.0], [1.0, 1.0], [5.0, 5.0], [1.0, -1.0]])
    expected = [-math.inf, -math.log(32), -math.inf, -math.inf]
    assert toys.log_prob("checkerboard", x).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("name", toys.names())
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int64])
def test_densities_of_coarse_points_are_those_of_the_same_points_in_double_precision(name, dtype):
    x = draw(name, 100)[0].to(dtype)
    log_p = inspect.unwrap(toys.log_prob)(name, x)  # shapes are checked in tests, integers refused
    assert log_p.dtype == torch.float32
    exact = toys.log_prob(name, x.double())
    torch.testing.assert_close(log_p.double(), exact, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", toys.names())
def test_no_points_have_no_densities(name):
    assert toys.log_prob(name, torch.zeros(0, 2)).shape == (0,)


def test_far_away_the_pinwheel_is_at_most_as_dense_as_along_an_arm():
    for radius in (100.0, 200.0, 1e4):
        turns = torch.arange(0, 6.3, 0.1)
        x = radius * torch.stack([turns.cos(), turns.sin()], 1)
        log_p = toys.log_prob("pinwheel", x)
        along, across = 0.6, 0.2  # the arms' standard deviations; their centres are at radius 2
        peak = -math.log(2 * math.pi * along * across)
        assert (log_p < peak - ((radius - 2) / along) ** 2 / 2 + 1e-3 * radius).all()
        assert (log_p > peak - ((radius + 2) / across) ** 2 / 2 - math.log(5)).all()


@pytest.mark.parametrize("n", [0, -1, 2.0, True, "5", None])
def test_counts_that_are_none_are_refused(n):
    with pytest.raises(ValueError, match=r"got n=.*whole number, at least 1"):
        inspect.unwrap(toys.sample)("pinwheel", n)


@pytest.mark.parametrize("n", [np.int64(5), np.uint8(5)])
@pytest.mark.parametrize("name", toys.names())
def test_counts_of_numpy_draw_the_same_points(name, n):
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    x, y = inspect.unwrap(toys.sample)(name, n, generator=generators[0])
    same = toys.sample(name, 5, generator=generators[1])
    assert torch.equal(x, same[0])
    assert torch.equal(y, same[1])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2), r"shape \(2,\)"),
        (torch.tensor(1.0), r"shape \(\)"),
        (torch.zeros(2, 3, 2), r"shape \(2, 3, 2\)"),
        (np.zeros((3, 2)), "type ndarray"),
    ],
)
def test_points_of_another_shape_are_refused(x, message):
    for name in toys.names():
        with pytest.raises(ValueError, match=message + r".*tensor of shape \(n, 2\)"):
            inspect.unwrap(toys.log_prob)(name, x)


def test_bad_input_is_named_with_the_remedy():
    with pytest.raises(ValueError, match=r"'spiral'.*two-moons, checkerboard"):
        toys.sample("spiral", 5)
    with pytest.raises(ValueError, match=r"shape \(5, 3\).*\(n, 2\)"):
        toys.log_prob("pinwheel", torch.zeros(5, 3))
    with pytest.raises(ValueError, match="n=0"):
        toys.sample("pinwheel", 0)
    with pytest.raises(ValueError, match=r"'pinwheel'.*eight-gaussians, grid25"):
        toys.modes("pinwheel")
