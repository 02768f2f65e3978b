"""Objectives of GANs: their values, slopes, best critics and the divergences that these give."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from gentext.adversarial.f_divergence import (
    DIVERGENCES,
    f_divergence,
    js_divergence,
    le_cam,
    total_variation,
    wasserstein1,
)
from gentext.adversarial.objectives import (
    OBJECTIVES,
    between,
    checked_penalties,
    game_value,
    gradient_penalty,
    hinge,
    mean_gap,
    non_saturating,
    relativistic_critic,
    relativistic_generator,
    saturating,
    slopes,
    squared_critic,
    squared_generator,
    zero_centred_penalty,
)
from tests.oracles import F64, gauss_hermite, minimize, normal_log_prob

pytestmark = pytest.mark.usefixtures("float64")

GRID = torch.linspace(-14, 14, 8001, dtype=F64)
STEP = float(GRID[1] - GRID[0])
COUNTS = torch.tensor([[9, 4, 1, 6], [2, 5, 8, 5]])  # of four points among data and samples


def distributions() -> tuple[Tensor, Tensor]:
    p, q = COUNTS / COUNTS.sum(1, keepdim=True)
    return p, q


def spread(critic: Tensor) -> tuple[Tensor, Tensor]:
    """The critic's values of the data and of the samples, each point as often as it is there."""
    real, fake = (critic.repeat_interleave(counts) for counts in COUNTS)
    return real, fake


def least(objective: str) -> tuple[float, Tensor]:
    """The least critic's loss over all functions of the four points, and where it is reached."""
    critic = torch.zeros(4, requires_grad=True)
    loss = minimize(lambda: OBJECTIVES[objective].critic(*spread(critic)), [critic], 2000)
    return float(loss), critic.detach()


@pytest.mark.equation("eq-gan-value")
def test_the_value_is_minus_twice_the_cross_entropy() -> None:
    real, fake = torch.randn(200), torch.randn(200)
    d = torch.sigmoid
    expected = d(real).log().mean() + (1 - d(fake)).log().mean()
    torch.testing.assert_close(game_value(real, fake), expected)
    truth = torch.cat([torch.ones(200), torch.zeros(200)])
    cross_entropy = binary_cross_entropy_with_logits(torch.cat([real, fake]), truth)
    torch.testing.assert_close(game_value(real, fake), -2 * cross_entropy)


@pytest.mark.equation("eq-gan-js")
@pytest.mark.parametrize("objective", ["minimax", "non-saturating"])
def test_the_best_critic_is_the_log_ratio_and_its_value_the_divergence(objective: str) -> None:
    p, q = distributions()
    loss, critic = least(objective)
    torch.testing.assert_close(critic, (p / q).log(), atol=1e-5, rtol=0)
    assert loss == pytest.approx(2 * math.log(2) - 2 * float(js_divergence(p, q)), abs=1e-9)


@pytest.mark.equation("eq-gan-sat")
def test_the_slopes_of_both_generators_losses() -> None:
    """One dies where a critic is sure of a sample, the other where it takes it for data."""
    for b in torch.linspace(-8, 8, 33):
        fake = b[None].requires_grad_()
        (low,) = torch.autograd.grad(saturating(fake, fake), fake)
        torch.testing.assert_close(low, -torch.sigmoid(b)[None])
        (high,) = torch.autograd.grad(non_saturating(fake, fake), fake)
        torch.testing.assert_close(high, -(1 - torch.sigmoid(b))[None])


def normal(x: Tensor, mean: Tensor, std: Tensor | float) -> Tensor:
    return normal_log_prob(x, mean, torch.as_tensor(std))


@pytest.mark.equation("eq-gan-ns")
@pytest.mark.parametrize(("loss", "kl"), [(non_saturating, 1.0), (saturating, 0.0)])
def test_what_the_generators_losses_descend_at_a_frozen_best_critic(loss, kl: float) -> None:
    """∇ of KL(q ‖ p) − 2 JS, or of 2 JS, by quadrature: μ and σ of a normal generator."""
    z, weights = gauss_hermite(200)
    mean, log_std = torch.tensor(-1.0).requires_grad_(), torch.tensor(0.3).requires_grad_()
    target = torch.tensor(0.5)
    x = mean + log_std.exp() * z
    frozen = normal(x, target, 1.0) - normal(x, mean.detach(), log_std.detach().exp())
    each = torch.stack([loss(b[None], b[None]) for b in frozen])
    found = torch.autograd.grad((weights * each).sum(), [mean, log_std])

    def objective() -> Tensor:
        log_q, log_p = normal(GRID, mean, log_std.exp()), normal(GRID, target, 1.0)
        js = js_divergence(log_p.exp() * STEP, log_q.exp() * STEP)
        reverse = (log_q.exp() * (log_q - log_p)).sum() * STEP
        return reverse - 2 * js if kl else 2 * js

    expected = torch.autograd.grad(objective(), [mean, log_std])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.equation("eq-gan-ls")
def test_the_best_critic_of_least_squares_is_a_probability() -> None:
    p, q = distributions()
    loss, critic = least("least-squares")
    torch.testing.assert_close(critic, p / (p + q), atol=1e-7, rtol=0)
    assert loss == pytest.approx(0.25 - float(le_cam(p, q)) / 8, abs=1e-9)
    fake = torch.tensor([0.2, 1.0, 3.0])
    assert float(squared_generator(fake, fake)) == pytest.approx((0.8**2 + 2**2) / 6)
    real = torch.tensor([0.5, 1.0])
    assert float(squared_critic(real, fake)) == pytest.approx((0.125 + (0.04 + 1 + 9) / 3) / 2)


@pytest.mark.equation("eq-gan-hinge")
def test_the_best_critic_of_hinge_says_which_distribution_is_larger() -> None:
    p, q = distributions()
    best = (p - q).sign()
    value = hinge(*spread(best))
    assert float(value) == pytest.approx(2 * (1 - float(total_variation(p, q))))
    for _ in range(50):
        assert hinge(*spread(1.5 * torch.randn(4))) > value


@pytest.mark.equation("eq-gan-pairs")
def test_the_best_relativistic_critic_is_the_log_ratio_too() -> None:
    """Its value is that of telling p ⊗ q from q ⊗ p, enumerated."""
    p, q = distributions()
    pairs = (p[:, None] * q, q[:, None] * p)
    critic = torch.zeros(4, requires_grad=True)

    def loss() -> Tensor:
        """All pairs of the four points, each as often as it occurs."""
        first, second = torch.meshgrid(*spread(critic), indexing="ij")
        return relativistic_critic(first.flatten(), second.flatten())

    value = float(minimize(loss, [critic], 2000))
    expected = math.log(2) - float(
        js_divergence(*(distribution.flatten() for distribution in pairs))
    )
    assert value == pytest.approx(expected, abs=1e-9)
    ratio = (p / q).log()
    found = critic.detach()
    torch.testing.assert_close(found - found.mean(), ratio - ratio.mean(), atol=1e-5, rtol=0)


def test_the_relativistic_losses_ask_the_same_question_with_both_answers() -> None:
    real, fake = torch.randn(2, 30)
    expected = -logsigmoid(real - fake).mean()
    torch.testing.assert_close(relativistic_critic(real, fake), expected)
    torch.testing.assert_close(relativistic_generator(fake, real), expected)


@pytest.mark.equation("eq-gan-fgan")
@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_best_critics_of_f_gans_measure_their_divergences(name: str) -> None:
    p, q = distributions()
    loss, critic = least(f"f-{name}")
    assert -loss == pytest.approx(float(f_divergence(p, q, name)), abs=1e-8)
    divergence = DIVERGENCES[name]
    torch.testing.assert_close(
        divergence.output(critic), divergence.slope(p / q), atol=2e-4, rtol=0
    )
    real, fake = spread(critic)
    mine = OBJECTIVES[f"f-{name}"].generator(real, fake) + divergence.output(real).mean()
    assert float(mine) == pytest.approx(-loss)


@pytest.mark.parametrize("values", [(80.0, 200.0), (-200.0, -80.0), (200.0, -200.0)])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_losses_of_values_far_out_are_as_finite_as_the_truth(
    objective: str, values: tuple[float, float]
) -> None:
    """In single precision, with their gradients; e^v alone is too large for it."""
    losses = OBJECTIVES[objective]
    real, fake = (torch.tensor([v], dtype=torch.float32, requires_grad=True) for v in values)
    # e^(v - 1) is KL's conjugate, and e^(-v) the last step of the reverse: too large in truth
    over = {"f-kl": fake > 89, "f-reverse-kl": real < -88}.get(objective, torch.tensor(False))
    for name, loss in (("critic", losses.critic), ("generator", losses.generator)):
        value = loss(real, fake)
        if over and not (objective == "f-reverse-kl" and name == "generator"):
            assert value.isinf()
            continue
        slopes_ = torch.autograd.grad(value, (real, fake), allow_unused=True)
        assert value.isfinite()
        assert all(slope.isfinite().all() for slope in slopes_ if slope is not None)


def test_pairs_of_unequal_numbers_are_refused() -> None:
    for loss in (relativistic_critic, relativistic_generator):
        with pytest.raises(ValueError, match=r"\(4,\) and \(3,\).*as many"):
            loss(torch.zeros(4), torch.zeros(3))


def test_slopes_of_numbers_and_of_labelled_examples() -> None:
    _, squared = slopes(lambda x: x**2, torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(squared.detach(), torch.tensor([4.0, 36.0]))
    table = torch.nn.Embedding(2, 3)
    with torch.inference_mode():
        x, y = torch.randn(4, 3), torch.tensor([0, 1, 1, 0])
        _, squared = slopes(lambda x, y: (x * table(y)).sum(1), x, y)
    torch.testing.assert_close(
        squared.detach(), table(torch.tensor([0, 1, 1, 0])).square().sum(1).detach()
    )


@pytest.mark.equation("eq-gan-w1")
def test_the_mean_gap_of_the_steepest_allowed_critic_is_wasserstein() -> None:
    """On a line it rises where more of q lies to the left, and falls elsewhere."""
    p, q = distributions()
    x = torch.tensor([0.0, 0.7, 1.0, 2.5])
    rises = ((q - p).cumsum(0)[:-1].sign() * x.diff()).cumsum(0)
    best = torch.cat([torch.zeros(1), rises])
    gap = -mean_gap(*spread(best))
    torch.testing.assert_close(gap, wasserstein1(x, p, q))
    for _ in range(50):
        slopes_ = torch.rand(3) * 2 - 1
        other = torch.cat([torch.zeros(1), (slopes_ * x.diff()).cumsum(0)])
        assert -mean_gap(*spread(other)) < gap


@pytest.mark.equation("eq-gan-gp", "eq-gan-r1")
def test_penalties_of_a_linear_critic_and_their_gradients() -> None:
    w, x = torch.randn(4, requires_grad=True), torch.randn(10, 4)
    values, squared = slopes(lambda x: x @ w, x)
    torch.testing.assert_close(values, x @ w)
    torch.testing.assert_close(squared.detach(), (w @ w).detach().expand(10))
    size = w.norm().detach()
    penalty = gradient_penalty(squared)
    assert float(penalty.detach()) == pytest.approx((float(size) - 1) ** 2, abs=1e-12)
    (slope,) = torch.autograd.grad(penalty, w, retain_graph=True)
    torch.testing.assert_close(slope, (2 * (size - 1) * w / size).detach())
    penalty = zero_centred_penalty(squared)
    assert float(penalty.detach()) == pytest.approx(float(size) ** 2 / 2)
    torch.testing.assert_close(torch.autograd.grad(penalty, w)[0], w.detach())


@pytest.mark.equation("eq-gan-gp")
def test_a_critic_nearly_flat_is_pushed_as_hard_as_any_other() -> None:
    w = torch.full((4,), 1e-9, requires_grad=True)
    _, squared = slopes(lambda x: x @ w, torch.randn(10, 4))
    (slope,) = torch.autograd.grad(gradient_penalty(squared), w)
    torch.testing.assert_close(slope, torch.full((4,), -1.0), rtol=1e-6, atol=0)


@pytest.mark.equation("eq-gan-gp")
def test_slopes_of_a_curved_critic_are_those_of_each_example() -> None:
    x = torch.randn(5, 3, 2)
    with torch.no_grad():
        values, squared = slopes(lambda x: x.pow(3).flatten(1).sum(1), x)
    torch.testing.assert_close(values, x.pow(3).flatten(1).sum(1))
    torch.testing.assert_close(squared, (3 * x**2).square().flatten(1).sum(1))
    assert not x.requires_grad


@pytest.mark.equation("eq-gan-gp", "eq-gan-r1")
@pytest.mark.parametrize("penalty", [gradient_penalty, zero_centred_penalty])
def test_penalties_of_a_curved_critic_have_the_gradients_of_differences(penalty) -> None:
    """By the weights of a perceptron, through the gradient by x."""
    net = torch.nn.Sequential(torch.nn.Linear(2, 5), torch.nn.SiLU(), torch.nn.Linear(5, 1))
    x = torch.randn(4, 2)

    def value(weight: Tensor) -> Tensor:
        def critic(x: Tensor) -> Tensor:
            return torch.func.functional_call(net, {"0.weight": weight}, (x,))[:, 0]

        return penalty(slopes(critic, x)[1])

    weight = net[0].weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(value, (weight,))


def test_unknown_penalties_are_refused() -> None:
    assert checked_penalties({"r1": 0.0, "gp": 2.0}) == {"gp": 2.0}
    with pytest.raises(ValueError, match=r"'GP'.*gp, r1, r2"):
        checked_penalties({"GP": 1.0})


def test_points_between_lie_on_the_lines_evenly() -> None:
    real, fake = torch.zeros(4000, 2), torch.tensor([1.0, -3.0]).expand(4000, 2)
    points = between(real, fake)
    share = points[:, 0]
    torch.testing.assert_close(points, share[:, None] * fake)
    assert float(share.mean()) == pytest.approx(0.5, abs=4 / math.sqrt(12 * 4000))
    assert float(share.var()) == pytest.approx(1 / 12, abs=0.005)
