"""InfoNCE against known mutual information and a written-out loop; what views depend on."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from gentext import data
from gentext.core import Encodes, Samples
from gentext.training.config import TrainConfig
from gentext.training.train import fit
from gentext.transfer.pretraining import (
    VIEWS,
    Contrastive,
    info_nce,
    info_nce_bound,
    nt_xent,
    views,
)

SHAPE = (1, 8, 8)
RHO, N, BATCHES = 0.8, 32, 1500
I = -0.5 * math.log(1 - RHO**2)  # noqa: E741 - nats that x and y of correlation ρ share


def small(**options: Any) -> Contrastive:
    return Contrastive(**{"shape": SHAPE, "channels": 8, "features": 6, "projection": 4} | options)


def correlated() -> tuple[Tensor, Tensor]:
    """log p(y_j | x_i) and log p(y_j) of batches of pairs of normals."""
    x = torch.randn(BATCHES, N)
    s = math.sqrt(1 - RHO**2)
    y = RHO * x + s * torch.randn(BATCHES, N)
    return Normal(RHO * x[:, :, None], s).log_prob(y[:, None, :]), Normal(0, 1).log_prob(y)


# The bound


@pytest.mark.usefixtures("float64")
@pytest.mark.equation("eq-pre-infonce")
def test_the_optimal_critic_finds_nearly_all_that_two_normals_share() -> None:
    given, alone = correlated()
    scores = given - alone[:, None, :]
    values = torch.stack([info_nce_bound(f) for f in scores[:200]])
    bound = info_nce_bound(scores)
    error = values.std() / math.sqrt(BATCHES)
    assert 0.85 * I < bound < I + 4 * error
    torch.testing.assert_close(info_nce_bound(scores[:200]), values.mean())


@pytest.mark.usefixtures("float64")
@pytest.mark.equation("eq-pre-infonce")
def test_a_critic_without_the_density_of_the_candidate_finds_less() -> None:
    """A function of x added to the optimal one changes nothing; one of y spoils it."""
    given, alone = correlated()
    optimal = info_nce_bound(given - alone[:, None, :])
    assert info_nce_bound(given) < 0.85 * I < optimal
    of_x = torch.randn(BATCHES, N, 1)
    torch.testing.assert_close(info_nce_bound(given - alone[:, None, :] + of_x), optimal)


@pytest.mark.usefixtures("float64")
@pytest.mark.equation("eq-pre-infonce")
def test_the_bound_has_a_ceiling_of_log_n() -> None:
    """Pairs that are copies of real numbers share infinitely many nats."""
    assert info_nce_bound(1000 * torch.eye(N)) == pytest.approx(math.log(N), abs=1e-12)
    assert info_nce_bound(torch.zeros(N, N)) == pytest.approx(0, abs=1e-12)
    scores = 30 * torch.randn(200, N, N)
    assert max(float(info_nce_bound(f)) for f in scores + 300 * torch.eye(N)) <= math.log(N) + 1e-12
    assert math.log(32) == pytest.approx(3.47, abs=0.005)


@pytest.mark.usefixtures("float64")
@pytest.mark.equation("eq-pre-infonce")
def test_the_loss_is_the_mean_over_rows_of_the_partners_probability() -> None:
    f = torch.randn(5, 5)
    total = 0.0
    for i in range(5):
        total -= math.log(math.exp(f[i, i]) / sum(math.exp(f[i, j]) for j in range(5)))
    assert float(info_nce(f)) == pytest.approx(total / 5, rel=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.equation("eq-pre-infonce")
def test_the_gradient_is_the_probabilities_less_the_pairs() -> None:
    f = torch.randn(6, 6, requires_grad=True)
    (slope,) = torch.autograd.grad(info_nce(f), f)
    torch.testing.assert_close(slope, (f.softmax(1) - torch.eye(6)).detach() / 6)


@pytest.mark.usefixtures("float64")
@pytest.mark.equation("eq-pre-infonce")
def test_two_views_of_each_image_are_a_written_out_loop() -> None:
    """Each of 2n views among the others, by cosines: itself is no candidate."""
    n, tau = 4, 0.3
    a, b = torch.randn(n, 3), torch.randn(n, 3)
    z, total = torch.cat([a, b]).tolist(), 0.0

    def similar(u: list[float], v: list[float]) -> float:
        dot = sum(p * q for p, q in zip(u, v, strict=True))
        return math.exp(dot / math.hypot(*u) / math.hypot(*v) / tau)

    for i in range(2 * n):
        others = sum(similar(z[i], z[j]) for j in range(2 * n) if j != i)
        total -= math.log(similar(z[i], z[(i + n) % (2 * n)]) / others)
    assert float(nt_xent(a, b, tau)) == pytest.approx(total / (2 * n), rel=1e-12)


@pytest.mark.usefixtures("float64")
def test_lengths_and_the_order_of_the_two_views_do_not_matter() -> None:
    a, b = torch.randn(5, 3), torch.randn(5, 3)
    long = torch.rand(5, 1) + 0.5
    torch.testing.assert_close(nt_xent(long * a, b, 0.5), nt_xent(b, a, 0.5))
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, 0.5), (a.requires_grad_(), b))


# Views


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 9, 16)])
def test_views_keep_shape_type_and_range_and_depend_on_the_generator_alone(
    shape: tuple[int, ...],
) -> None:
    x = torch.rand(20, *shape)
    made = []
    for global_seed, seed in ((1, 5), (2, 5), (2, 6)):
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        made.append(views(x, torch.Generator().manual_seed(seed), **VIEWS))
        assert torch.get_rng_state().equal(before)
    assert made[0].shape == x.shape
    assert made[0].dtype == x.dtype
    assert made[0].min() >= 0
    assert made[0].max() <= 1
    assert made[0].equal(made[1])
    assert not made[0].equal(made[2])
    twice = views(x[:1].expand_as(x), **VIEWS)
    assert len(twice.flatten(1).unique(dim=0)) == 20  # each has draws of its own


def test_without_options_a_view_is_the_image() -> None:
    x = torch.rand(5, 3, 8, 10)
    torch.testing.assert_close(views(x), x, atol=1e-6, rtol=0)


@pytest.mark.usefixtures("float64")
def test_a_view_is_shifted_scaled_and_turned_about_the_middle() -> None:
    """A round blob stays one: where it is and how wide follow from the draws."""
    side = 41
    place = torch.arange(side) - (side - 1) / 2
    blob = (-(place[:, None] ** 2 + (place[None] - 6) ** 2) / 8).exp()
    x = blob.expand(400, 1, side, side)
    centre, radius = _centre(views(x, shift=0.1)), _centre(views(x, turn=0.5))
    offset = centre - torch.tensor([0.0, 6.0])
    assert float(offset.abs().max()) <= 0.1 * side + 0.01
    assert float(offset.abs().amax(0).min()) > 0.09 * side
    torch.testing.assert_close(radius.norm(dim=1), torch.full((400,), 6.0), atol=0.05, rtol=0)
    angle = torch.atan2(radius[:, 0], radius[:, 1])
    assert 0.47 < float(angle.abs().max()) < 0.51
    sizes = views(x, scale=0.2).flatten(1).sum(1) / blob.sum()
    share = sizes.sqrt()  # an area of (1 + scale u)²
    assert float(share.min()) == pytest.approx(0.8, abs=0.01)
    assert float(share.max()) == pytest.approx(1.2, abs=0.01)


def _centre(x: Tensor) -> Tensor:
    """The centre of mass of each image, rows and columns from the middle."""
    place = torch.arange(x.shape[-1]) - (x.shape[-1] - 1) / 2
    mass = x[:, 0].sum((1, 2))
    rows, columns = x[:, 0].sum(2) @ place, x[:, 0].sum(1) @ place
    return torch.stack([rows, columns], 1) / mass[:, None]


def test_a_part_is_erased_and_the_rest_stays() -> None:
    x = 0.1 + 0.8 * torch.rand(300, 1, 8, 8)
    made = views(x, erase=0.25)
    gone = made[:, 0] == 0
    torch.testing.assert_close(made[:, 0][~gone], x[:, 0][~gone], atol=1e-6, rtol=0)
    rows, columns = gone.any(2), gone.any(1)
    assert gone.equal(rows[:, :, None] & columns[:, None, :])  # a rectangle
    assert {*rows.sum(1).tolist(), *columns.sum(1).tolist()} <= {1, 2, 3}
    assert gone.float().mean() == pytest.approx(1 / 16, rel=0.1)
    assert gone.any(0).all()  # every pixel now and then


@pytest.mark.usefixtures("float64")
def test_brightness_is_one_factor_an_image_and_noise_one_draw_a_value() -> None:
    x = torch.full((500, 1, 4, 4), 0.5)
    factor = views(x, brightness=0.4).flatten(1) / 0.5
    torch.testing.assert_close(factor, factor[:, :1].expand_as(factor))
    assert 0.6 <= float(factor.min()) < 0.62
    assert 1.38 < float(factor.max()) <= 1.4
    noise = views(x, noise=0.05) - 0.5
    assert float(noise.std()) == pytest.approx(0.05, rel=0.05)
    assert abs(float(noise.mean())) < 4 * 0.05 / math.sqrt(noise.numel())


# The model


def test_what_it_can_do() -> None:
    model = small()
    assert isinstance(model, Encodes)
    assert not isinstance(model, Samples)
    assert model.encode(torch.rand(4, *SHAPE)).shape == (4, 6)


def test_the_loss_is_that_of_two_views_by_the_projection_of_the_codes() -> None:
    model, x = small().eval(), torch.rand(7, *SHAPE)
    torch.manual_seed(3)
    a, b = views(x, **VIEWS), views(x, **VIEWS)
    expected = nt_xent(model.head(model.encode(a)), model.head(model.encode(b)), 0.2)
    torch.manual_seed(3)
    torch.testing.assert_close(model.loss(x), expected)


def test_options_of_views_that_are_not_named_are_left_out() -> None:
    model, x = small(views={"brightness": 0.0}), torch.rand(5, *SHAPE)
    z = model.head(model.encode(x))
    torch.testing.assert_close(model.loss(x), nt_xent(z, z, 0.2), atol=1e-5, rtol=0)


def test_training_learns_which_views_belong_together() -> None:
    """One in ten is found after a few steps, where chance finds one in 64."""
    x = data.load("digits").train[0]
    model = small(features=16, projection=16, channels=16)
    fit(model, (x,), TrainConfig(steps=60, batch_size=64, lr=5e-3), progress=False)
    a, b = (model.head(model.encode(views(x[:64], **VIEWS))) for _ in range(2))
    a, b = (torch.nn.functional.normalize(z, dim=1) for z in (a, b))
    found = ((a @ b.T).argmax(1) == torch.arange(64)).float().mean()
    assert found > 0.1
    assert nt_xent(a, b, 0.2) < math.log(127) - 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (1, 7, 7)}, "longer than 7"),
        ({"channels": 12}, "channels=12"),
        ({"temperature": 0.0}, "temperature"),
        ({"views": {"shfit": 0.1}}, "did you mean 'shift'"),
        ({"views": {"erase": 1.5}}, "erase must be at least 0 and at most 1"),
        ({"views": 0.1}, "views=0.1"),
    ],
)
def test_sizes_and_options_that_do_not_fit_are_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_scores_that_are_no_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        info_nce(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"\(0, 0\)"):
        info_nce(torch.zeros(0, 0))
