"""GANs: turns and gradients, known optima on known densities, training, bad input."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gentext import checkpoint, toys
from gentext.adversarial.f_divergence import js_divergence, le_cam, total_variation
from gentext.adversarial.gan import GAN, ImageGAN
from gentext.adversarial.objectives import OBJECTIVES
from gentext.core import Bound, Density, Encodes, Samples
from gentext.evaluation.fidelity import mode_coverage
from gentext.training.config import TrainConfig
from gentext.training.train import fit


def small(**options: Any) -> GAN:
    return GAN(**{"shape": (2,), "latent": 3, "hidden": 16, "layers": 2} | options)


def images(**options: Any) -> ImageGAN:
    networks = {"generator": "dcgan", "critic": "dcgan", "channels": 8}
    return ImageGAN(**{"shape": (1, 8, 8), "latent": 3} | networks | options)


def test_what_a_gan_can_do() -> None:
    gan = small()
    assert isinstance(gan, Samples)
    assert isinstance(gan, Encodes)
    assert not isinstance(gan, Density | Bound)


@pytest.mark.parametrize("penalties", [{}, {"gp": 10.0}, {"r1": 0.5, "r2": 0.1}])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_each_turn_moves_its_own_player(objective: str, penalties: dict[str, float]) -> None:
    gan, x = small(objective=objective, penalties=penalties), torch.randn(8, 2)
    for turn, mine, other in [
        ("critic_loss", gan.critic, gan.generator),
        ("generator_loss", gan.generator, gan.critic),
    ]:
        gan.zero_grad()
        gan(x, turn=turn).backward()
        assert all(p.grad is not None for p in mine.parameters())
        assert all(p.grad is None for p in other.parameters())


class Fixed(nn.Module):
    """A generator that moves codes by ``shift``, or a critic that weighs examples with it."""

    def __init__(self, shift: Tensor) -> None:
        super().__init__()
        self.shift = nn.Parameter(shift)


class Moves(Fixed):
    def forward(self, z: Tensor) -> Tensor:
        return z + self.shift


class Weighs(Fixed):
    def forward(self, x: Tensor) -> Tensor:
        return x @ self.shift


def linear(shift: Tensor, weight: Tensor, **options: Any) -> GAN:
    n = len(shift)
    return GAN(shape=(n,), latent=n, generator=Moves(shift), critic=Weighs(weight), **options)


log_sigmoid = nn.functional.logsigmoid
LOSSES = {  # of the critic and of the generator, from values of data and of samples, by hand
    "minimax": (
        lambda a, b: -(log_sigmoid(a) + log_sigmoid(-b)).mean(),
        lambda a, b: log_sigmoid(-b).mean(),
    ),
    "non-saturating": (
        lambda a, b: -(log_sigmoid(a) + log_sigmoid(-b)).mean(),
        lambda a, b: -log_sigmoid(b).mean(),
    ),
    "least-squares": (
        lambda a, b: ((a - 1) ** 2 + b**2).mean() / 2,
        lambda a, b: ((b - 1) ** 2).mean() / 2,
    ),
    "wasserstein-gp": (lambda a, b: (b - a).mean(), lambda a, b: -b.mean()),
    "hinge": (
        lambda a, b: ((1 - a).clamp_min(0) + (1 + b).clamp_min(0)).mean(),
        lambda a, b: -b.mean(),
    ),
    "relativistic": (
        lambda a, b: -log_sigmoid(a - b).mean(),
        lambda a, b: -log_sigmoid(b - a).mean(),
    ),
    "f-kl": (
        lambda a, b: ((b - 1).exp() - a).mean(),
        lambda a, b: -(b - 1).exp().mean(),
    ),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("objective", LOSSES)
def test_losses_are_those_of_the_objective_on_data_and_samples(objective: str) -> None:
    shift, weight, x = torch.randn(3), torch.randn(3), torch.randn(500, 3)
    gan = linear(shift, weight, objective=objective, penalties={})
    torch.manual_seed(1)
    made = torch.randn(500, 3) + shift
    for loss, expected in zip(
        (gan.critic_loss, gan.generator_loss), LOSSES[objective], strict=True
    ):
        torch.manual_seed(1)
        torch.testing.assert_close(loss(x), expected(x @ weight, made @ weight))


def test_losses_of_images_see_data_and_samples_on_one_scale() -> None:
    gan = ImageGAN(
        shape=(1, 2, 2),
        latent=4,
        generator=nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Unflatten(1, (1, 2, 2))),
        critic=nn.Sequential(nn.Flatten(), nn.Linear(4, 1), nn.Flatten(0)),
        objective="relativistic",
        penalties={},
    )
    x = torch.rand(6, 1, 2, 2)
    torch.manual_seed(1)
    made = gan.generator(torch.randn(6, 4))
    a, b = gan.critic(2 * x - 1), gan.critic(made)
    torch.manual_seed(1)
    torch.testing.assert_close(gan.critic_loss(x), -log_sigmoid(a - b).mean())
    torch.manual_seed(1)
    torch.testing.assert_close(gan.generator_loss(x), -log_sigmoid(b - a).mean())


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gp", lambda w: (w.norm() - 1) ** 2),
        ("r1", lambda w: w @ w / 2),
        ("r2", lambda w: w @ w / 2),
    ],
)
def test_penalties_are_weighted_and_their_gradients_are_exact(name: str, expected: Any) -> None:
    weight, x = torch.randn(3), torch.randn(50, 3)
    losses = []
    for penalties in ({}, {name: 0.7}):
        gan = linear(torch.zeros(3), weight, objective="wasserstein-gp", penalties=penalties)
        torch.manual_seed(1)
        losses.append(gan.critic_loss(x))
    gan.critic.zero_grad()
    torch.testing.assert_close(losses[1] - losses[0], 0.7 * expected(weight))
    losses[1].backward()
    w = weight.clone().requires_grad_()
    (0.7 * expected(w)).backward()
    torch.manual_seed(1)
    plain = torch.randn(50, 3).mean(0) - x.mean(0)
    torch.testing.assert_close(gan.critic.shift.grad, plain + w.grad)


@pytest.mark.usefixtures("float64")
def test_r1_is_of_data_and_r2_of_samples() -> None:
    class Square(Fixed):
        def forward(self, x: Tensor) -> Tensor:
            return x.square().sum(1) * self.shift

    x = torch.full((4, 2), 2.0)
    for name, expected in {"r1": 0.5 * 32.0, "r2": 0.5 * 200.0}.items():
        losses = []
        for penalties in ({}, {name: 1.0}):
            gan = GAN(
                shape=(2,),
                latent=2,
                generator=Moves(torch.tensor([5.0, 5.0])),
                critic=Square(torch.ones(())),
                objective="wasserstein-gp",
                penalties=penalties,
            )
            gan._codes = lambda n, like, generator=None: torch.zeros(n, 2)
            losses.append(float(gan.critic_loss(x).detach()))
        assert losses[1] - losses[0] == pytest.approx(expected)


class MovesByLabel(Fixed):
    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return z + self.shift * y[:, None]


class WeighsWithLabel(Fixed):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - self.shift * y[:, None]).square().sum(1)


@pytest.mark.usefixtures("float64")
def test_data_and_samples_are_judged_with_their_own_labels() -> None:
    shift, y = torch.tensor([10.0, -10.0]), torch.tensor([0, 1, 2, 2, 2, 0])
    gan = GAN(
        shape=(2,),
        latent=2,
        classes=3,
        generator=MovesByLabel(shift),
        critic=WeighsWithLabel(shift),
        objective="wasserstein-gp",
        penalties={},
    )
    x = shift * y[:, None] + 0.1 * torch.randn(6, 2)
    torch.manual_seed(1)
    of_samples = torch.randn(6, 2).square().sum(1).mean()
    of_data = (x - shift * y[:, None]).square().sum(1).mean()
    torch.manual_seed(1)
    torch.testing.assert_close(gan.critic_loss(x, y), of_samples - of_data)
    torch.manual_seed(1)
    torch.testing.assert_close(gan.generator_loss(x, y), -of_samples)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("penalty", ["gp", "r1", "r2"])
def test_slopes_are_those_given_the_label_of_each_example(penalty: str) -> None:
    """The slope of (x − label)² is twice the distance, which differs from label to label."""
    y, one = torch.tensor([0, 1, 2, 2]), torch.ones(1)
    x = torch.tensor([[0.5], [3.0], [1.0], [2.25]])
    losses = []
    for penalties in ({}, {penalty: 1.0}):
        gan = GAN(
            shape=(1,),
            latent=1,
            classes=3,
            generator=MovesByLabel(2 * one),
            critic=WeighsWithLabel(one),
            objective="wasserstein-gp",
            penalties=penalties,
        )
        torch.manual_seed(1)
        losses.append(gan.critic_loss(x, y))
    torch.manual_seed(1)
    made = torch.randn(4, 1) + 2 * y[:, None]
    place = {"r1": x, "r2": made, "gp": torch.lerp(x, made, torch.rand(4, 1))}[penalty]
    squared = (2 * (place - y[:, None])).square()[:, 0]
    expected = (squared.sqrt() - 1).square().mean() if penalty == "gp" else squared.mean() / 2
    torch.testing.assert_close(losses[1] - losses[0], expected)


def test_objectives_bring_their_penalties_unless_told_otherwise() -> None:
    assert small(objective="wasserstein-gp").penalties == {"gp": 10.0}
    assert small(objective="relativistic").penalties == {"r1": 1.0, "r2": 1.0}
    assert small(objective="relativistic", penalties={"r1": 0.0}).penalties == {}
    assert small(objective="hinge").penalties == {}
    assert hasattr(small(objective="hinge").critic.last, "parametrizations")
    assert not hasattr(small(objective="hinge", spectral=False).critic.last, "parametrizations")


def trained_critic(objective: str, steps: int, **options: Any) -> tuple[GAN, Tensor, Tensor]:
    """A critic of N(0.7, 1) and N(−0.7, 1), the samples, which stay; a grid and both on it."""
    gan = GAN(
        shape=(1,),
        latent=1,
        generator=Moves(torch.tensor([-0.7])),
        objective=objective,
        hidden=64,
        layers=2,
        **options,
    )
    optimizer = torch.optim.Adam(gan.critic.parameters(), 3e-3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / steps)
        optimizer.zero_grad()
        gan.critic_loss(torch.randn(2048, 1) + 0.7).backward()
        optimizer.step()
    x = torch.linspace(-5, 5, 2001)[:, None]
    density = [torch.exp(-((x[:, 0] - m) ** 2) / 2) / math.sqrt(2 * math.pi) for m in (0.7, -0.7)]
    return gan, x, torch.stack(density) * 0.005


@torch.no_grad()
def at_best(gan: GAN, x: Tensor, densities: Tensor) -> float:
    """The critic's loss, its means taken by quadrature: a sum of what it says of each point."""
    critic, nothing = gan.objective.critic, torch.zeros(1)
    values = gan.score(x).split(1)
    of_real = torch.stack([critic(value, nothing) for value in values])
    of_fake = torch.stack([critic(nothing, value) for value in values])
    return float((densities[0] * of_real + densities[1] * of_fake).sum() - critic(nothing, nothing))


@pytest.mark.parametrize("objective", ["minimax", "relativistic", "least-squares", "hinge", "f-kl"])
def test_a_trained_critic_approaches_the_known_optimum(objective: str) -> None:
    """log p/q = 1.4 x where that is the optimum; the loss reaches the divergence."""
    options = {"spectral": False, "penalties": {}}
    gan, x, densities = trained_critic(objective, 600, **options)
    p, q = densities
    pairs = js_divergence((p[:, None] * q).flatten(), (q[:, None] * p).flatten())
    expected = {
        "minimax": 2 * math.log(2) - 2 * js_divergence(p, q),
        "least-squares": 0.25 - le_cam(p, q) / 8,
        "hinge": 2 * (1 - total_variation(p, q)),
        "f-kl": -torch.xlogy(p, p / q).sum(),
        "relativistic": math.log(2) - pairs,
    }[objective]
    if objective == "relativistic":  # over all pairs of the grid
        values = gan.score(x).detach()
        gaps = torch.nn.functional.softplus(values[None, :] - values[:, None])
        reached = float((p[:, None] * q * gaps).sum())
    else:
        reached = at_best(gan, x, densities)
    assert float(expected) - 0.002 < reached < float(expected) + 0.02
    if objective in ("minimax", "relativistic"):
        inside = x[:, 0].abs() < 1.5
        values = gan.score(x).detach()[inside]
        error = values - 1.4 * x[inside, 0]
        assert float((error - error.mean()).abs().max()) < 0.2


def test_the_wasserstein_critic_approaches_the_distance_of_shifted_distributions() -> None:
    """W₁ of two distributions that differ by a shift is the shift: 1.4."""
    gan, x, densities = trained_critic("wasserstein-gp", 400)
    values = gan.score(x).detach()
    gap = float(((densities[0] - densities[1]) * values).sum())
    assert gap == pytest.approx(1.4, abs=0.1)


@pytest.mark.parametrize("objective", ["non-saturating", "relativistic", "wasserstein-gp", "hinge"])
def test_training_moves_the_samples_to_the_data(objective: str) -> None:
    gan = small(objective=objective, critic_steps=3)
    x = torch.randn(4000, 2) * torch.tensor([0.5, 0.2]) + torch.tensor([2.0, -1.0])
    config = TrainConfig(steps=600, batch_size=128, lr=4e-3, betas=(0.5, 0.99), ema=0.99)
    history = fit(gan, (x,), config, progress=False)
    assert len(history.losses["critic_loss"]) == 600
    assert len(history.losses["generator_loss"]) == 200
    made = gan.sample(2000)
    assert (made.mean(0) - x.mean(0)).abs().max() < 0.4
    assert made.std(0).max() < 1


def test_resumed_training_goes_on_exactly(tmp_path: Path) -> None:
    """With turns of different lengths, and an average of the generator alone."""
    x = torch.randn(300, 2)

    def config(steps: int) -> TrainConfig:
        return TrainConfig(steps=steps, batch_size=32, betas=(0.0, 0.9), ema=0.9, save_every=5)

    def fresh() -> GAN:
        torch.manual_seed(3)
        return small(critic_steps=3, spectral=True)

    whole, parts = fresh(), fresh()
    one = fit(whole, (x,), config(10), progress=False)
    fit(parts, (x,), config(5), out=tmp_path, progress=False)
    again = fresh()
    two = fit(again, (x,), config(10), out=tmp_path, resume=True, progress=False)
    assert one.losses == two.losses
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert a.equal(b)


def test_only_the_generator_is_averaged() -> None:
    gan, x = small(), torch.randn(100, 2)
    seen: list[tuple[Tensor, Tensor]] = []

    def weights(net: Any) -> Tensor:
        return torch.cat([p.detach().flatten() for p in net.parameters()])

    def keep(step: int, model: Any) -> None:
        seen.append((weights(model.critic), weights(model.generator)))

    config = TrainConfig(steps=6, batch_size=16, ema=0.9)
    fit(gan, (x,), config, observers=[keep], progress=False)
    assert weights(gan.critic).equal(seen[-1][0])
    assert not weights(gan.generator).equal(seen[-1][1])


def test_images_are_in_the_unit_interval_and_seen_in_twice_that() -> None:
    gan = images()
    x = gan.sample(4)
    assert 0 <= float(x.min()) < float(x.max()) <= 1
    z = torch.randn(4, 3)
    torch.testing.assert_close(2 * gan.decode(z) - 1, gan.generator(z))
    torch.testing.assert_close(gan.encode(x), gan.critic.features(2 * x - 1))
    torch.testing.assert_close(gan.score(x), gan.critic(2 * x - 1))


def test_samples_follow_the_generator_of_random_numbers_and_the_temperature() -> None:
    gan = small()
    a, b = (gan.sample(5, generator=torch.Generator().manual_seed(2)) for _ in "ab")
    assert a.equal(b)
    cold = gan.sample(5, temperature=0.0)
    torch.testing.assert_close(cold, gan.decode(torch.zeros(5, 3)).detach())


def test_samples_of_a_class_are_those_of_its_label() -> None:
    gan = small(classes=3)
    y = torch.tensor([0, 1, 2, 2])
    made = gan.sample(4, y, generator=torch.Generator().manual_seed(0))
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(made, gan.decode(z, y).detach())


def test_samples_without_a_label_are_of_all_classes_alike() -> None:
    shift = torch.tensor([100.0])
    gan = GAN(
        shape=(1,),
        latent=1,
        classes=4,
        generator=MovesByLabel(shift),
        critic=WeighsWithLabel(shift),
    )
    first, again = (gan.sample(4000, generator=torch.Generator().manual_seed(2)) for _ in "ab")
    assert first.equal(again)
    counts = (first[:, 0] / 100).round().long().bincount()
    assert len(counts) == 4
    assert (counts - 1000).abs().max() < 4 * math.sqrt(4000 * 3 / 16)


def test_paths_between_codes_begin_and_end_there_and_keep_their_length() -> None:
    gan = GAN(shape=(8,), latent=8, generator=Moves(torch.zeros(8)), critic=Weighs(torch.ones(8)))
    a, b = torch.randn(2, 3, 8)
    path = gan.interpolate(a, b, 5).detach()
    torch.testing.assert_close(path[:, 0], a)
    torch.testing.assert_close(path[:, -1], b)
    middle = (a.norm(dim=1) + b.norm(dim=1)) / 2
    torch.testing.assert_close(path[:, 2].norm(dim=1), middle)
    torch.testing.assert_close(gan.interpolate(a, a, 3)[:, 1], a)
    equal = gan.interpolate(a, b * a.norm(dim=1, keepdim=True) / b.norm(dim=1, keepdim=True), 5)
    steps = (equal[:, 1:] - equal[:, :-1]).norm(dim=2).detach()
    torch.testing.assert_close(steps, steps[:, :1].expand(-1, 4))


def test_paths_between_opposite_codes_go_round_and_those_of_one_number_straight() -> None:
    gan = GAN(shape=(3,), latent=3, generator=Moves(torch.zeros(3)), critic=Weighs(torch.ones(3)))
    a = torch.tensor([[0.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
    path = gan.interpolate(a, -a, 5).detach()
    torch.testing.assert_close(path.norm(dim=2), a.norm(dim=1)[:, None].expand(2, 5))
    torch.testing.assert_close(path[:, -1], -a)
    line = GAN(shape=(1,), latent=1, generator=Moves(torch.zeros(1)), critic=Weighs(torch.ones(1)))
    found = line.interpolate(torch.tensor([[0.5]]), torch.tensor([[-2.0]]), 3)[0, :, 0].detach()
    torch.testing.assert_close(found, torch.tensor([0.5, -0.75, -2.0]))


def test_a_saved_gan_is_the_same_gan(tmp_path: Path) -> None:
    gan = small(classes=2, objective="hinge", penalties={"r1": 0.1}, frequencies=(3.0, 2.0))
    checkpoint.save(tmp_path / "gan.safetensors", gan)
    again = checkpoint.load(tmp_path / "gan.safetensors")
    y, z = torch.tensor([0, 1]), torch.randn(2, 3)
    assert again.decode(z, y).equal(gan.eval().decode(z, y))
    x = torch.randn(2, 2)
    assert again.score(x, y).equal(gan.score(x, y))
    assert all(a.equal(b) for a, b in zip(again.buffers(), gan.buffers(), strict=True))
    assert again.penalties == {"r1": 0.1}


def test_it_trains_in_half_precision() -> None:
    config = TrainConfig(steps=2, batch_size=16, precision="bf16")
    losses = fit(images(), (torch.rand(64, 1, 8, 8),), config, progress=False).losses
    assert all(math.isfinite(value) for turn in losses.values() for value in turn)


def test_losses_of_half_precision_are_taken_in_single() -> None:
    """Of values far out bfloat16 knows three digits: their means need more."""
    gan = linear(torch.zeros(2), torch.ones(2), objective="wasserstein-gp", penalties={})
    with torch.autocast("cpu", torch.bfloat16):
        losses = [loss(torch.randn(64, 2)) for loss in (gan.critic_loss, gan.generator_loss)]
    assert [loss.dtype for loss in losses] == [torch.float32] * 2
    steep = GAN(
        shape=(2,),
        latent=2,
        generator=Moves(torch.zeros(2)),
        critic=Weighs(torch.full((2,), 300.0)),
        objective="wasserstein-gp",
        penalties={"r1": 1.0},
    ).half()
    assert float(steep.critic_loss(torch.zeros(4, 2).half()).detach()) == pytest.approx(
        9e4, rel=0.1
    )


COMPILED = """
import torch
from gentext import ImageGAN
for penalties in ({}, {"r1": 1.0, "r2": 1.0}, {"gp": 1.0}):
    gan = ImageGAN(shape=(1, 8, 8), latent=3, generator="dcgan", critic="dcgan", channels=8,
                   penalties=penalties, spectral=True)
    x, compiled = torch.rand(16, 1, 8, 8), torch.compile(gan, backend="aot_eager")
    start = {name: buffer.clone() for name, buffer in gan.named_buffers()}
    for turn in gan.turns():
        found = []
        for model in (gan, compiled):
            torch.manual_seed(0)
            gan.load_state_dict(start, strict=False)
            gan.zero_grad()
            model(x, turn=turn).backward()
            seen = [p.grad for p in gan.turns()[turn]] + list(gan.buffers())
            found.append([t.clone() for t in seen])
        torch.testing.assert_close(*found)
        print(turn)
"""


def test_compiled_losses_have_the_same_gradients() -> None:
    """In a process of its own, where no shapes are checked at run time."""
    run = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["critic_loss", "generator_loss"] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "vanilla"}, r"'vanilla'.*relativistic"),
        ({"penalties": {"r3": 1.0}}, r"penalty 'r3'.*gp, r1, r2"),
        ({"penalties": {"r1": -1.0}}, r"-1.0.*'r1'"),
        ({"penalties": {"r1": math.nan}}, r"nan"),
        ({"latent": 0}, r"latent=0"),
        ({"critic_steps": 0}, r"critic_steps=0"),
        ({"classes": -1}, r"classes=-1"),
        ({"shape": (0,)}, r"side=0"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_bad_data_are_refused() -> None:
    config = TrainConfig(steps=1, batch_size=4)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        fit(images(), (torch.randn(4, 1, 8, 8),), config, progress=False)
    with pytest.raises(ValueError, match=r"has none.*without_labels"):
        fit(small(), (torch.randn(4, 2), torch.zeros(4).long()), config, progress=False)
    with pytest.raises(ValueError, match=r"3 classes: give one"):
        fit(small(classes=3), (torch.randn(4, 2),), config, progress=False)
    with pytest.raises(ValueError, match=r"label 5"):
        small(classes=3).sample(2, torch.tensor([0, 5]))
    with pytest.raises(ValueError, match=r"codes \(2, 7\).*3"):
        small().decode(torch.zeros(2, 7))
    with pytest.raises(ValueError, match=r"3 classes: give one"):
        small(classes=3).score(torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"has none"):
        small().score(torch.zeros(2, 2), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"Weighs as critic has no features"):
        linear(torch.zeros(2), torch.ones(2)).encode(torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"generator_loss is due in none of 4 steps"):
        fit(small(critic_steps=5), (torch.zeros(4, 2),), TrainConfig(steps=4), progress=False)
    with pytest.raises(ValueError, match=r"n=0"):
        small().sample(0)
    with pytest.raises(ValueError, match=r"steps=1"):
        small().interpolate(torch.zeros(1, 3), torch.zeros(1, 3), 1)
    with pytest.raises(ValueError, match=r"codes \(1, 4\) and \(1, 4\).*\(n, 3\) twice"):
        small().interpolate(torch.zeros(1, 4), torch.zeros(1, 4), 2)
    with pytest.raises(ValueError, match=r"temperature=inf"):
        small().sample(2, temperature=math.inf)
    with pytest.raises(ValueError, match=r"got y=float32.*must be a tensor of integers"):
        small(classes=3).sample(2, torch.zeros(2))
    with pytest.raises(ValueError, match=r"float64 and the model float32.*data.float"):
        fit(small(), (torch.zeros(4, 2).double(),), config, progress=False)


WRONG_KINDS = """
import math, torch
from gentext import GAN, TrainConfig
from gentext.adversarial.dirac import dirac_gan_field
for call in (
    lambda: GAN(shape=(2,), hidden="ab"),
    lambda: GAN(shape=(2,), critic_steps=1.5),
    lambda: GAN(shape=2),
    lambda: GAN(shape=(2,), penalties=["r1"]),
    lambda: GAN(shape=(2,), classes=2).sample(2, torch.zeros(2).bool()),
    lambda: TrainConfig(steps=1.5),
    lambda: TrainConfig(steps=1, betas=0.5),
    lambda: dirac_gan_field(torch.zeros(2, 3)),
    lambda: dirac_gan_field(torch.tensor(1.0)),
):
    try:
        call()
        print("no error")
    except Exception as error:
        print(type(error).__name__)
"""


def test_values_of_the_wrong_kind_are_refused_also_where_no_types_are_checked() -> None:
    run = subprocess.run(
        [sys.executable, "-c", WRONG_KINDS], capture_output=True, text=True, check=True
    )
    assert run.stdout.split("\n")[:-1] == ["ValueError"] * 9


def test_critics_of_another_shape_are_refused() -> None:
    gan = GAN(shape=(2,), latent=2, generator=Moves(torch.zeros(2)), critic=nn.Linear(2, 1))
    for call in (gan.critic_loss, gan.generator_loss, gan.score):
        with pytest.raises(ValueError, match=r"\((6|3), 1\) for (6|3) examples.*flatten"):
            call(torch.randn(3, 2))


def test_the_first_batch_of_a_stream_is_seen_to_fit(tmp_path: Path) -> None:
    config, two = TrainConfig(steps=2), [(torch.randn(4, 2), torch.zeros(4).long())]
    with pytest.raises(ValueError, match="has none"):
        fit(small(), two, config, out=tmp_path, progress=False)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        fit(images(), [255 * torch.rand(4, 1, 8, 8)], config, progress=False)
    once = iter([torch.randn(4, 2), torch.randn(4, 2)])  # nothing of it is lost to the look
    fit(small(), once, config, progress=False)
    assert next(once, None) is None


@pytest.mark.parametrize(
    "other", [{"objective": "minimax"}, {"critic_steps": 4}, {"penalties": {}}, {"spectral": True}]
)
def test_another_game_does_not_go_on_from_a_checkpoint(tmp_path: Path, other: Any) -> None:
    """Also where one of the two leaves an argument at its default."""
    config = TrainConfig(steps=4, batch_size=4)
    fit(small(), (torch.randn(8, 2),), config, out=tmp_path, progress=False)
    name = next(iter(other))
    with pytest.raises(ValueError, match=f"was trained with {name}="):
        fit(small(**other), (torch.randn(8, 2),), config, out=tmp_path, resume=True, progress=False)
    mine = linear(torch.zeros(2), torch.ones(2), objective="hinge")
    there = tmp_path / "own"
    fit(mine, (torch.randn(8, 2),), config, out=there, progress=False)
    theirs = linear(torch.zeros(2), torch.ones(2), objective="minimax")
    with pytest.raises(ValueError, match="trained with objective='hinge'"):
        fit(theirs, (torch.randn(8, 2),), config, out=there, resume=True, progress=False)


def test_a_ring_is_found_by_the_recommended_game() -> None:
    """Eight of eight modes with low momentum, and fewer with the momentum of 0.9."""
    x = toys.sample("eight-gaussians", 4000)[0]
    found = {}
    for momentum in (0.5, 0.9):
        torch.manual_seed(0)
        gan = GAN(shape=(2,), latent=2, hidden=64, layers=2, penalties={"r1": 0.5, "r2": 0.5})
        betas = (momentum, 0.999)
        config = TrainConfig(steps=600, batch_size=128, lr=5e-3, betas=betas)
        fit(gan, (x,), config, progress=False)
        centres = toys.modes("eight-gaussians").float()
        found[momentum] = mode_coverage(gan.sample(2000), centres, 0.9).modes
    assert found[0.5] == 8
    assert found[0.9] < 8


def test_the_same_game_written_otherwise_goes_on(tmp_path: Path) -> None:
    """Another order of the penalties, a weight of 1 for 1.0, and a default that the file lacks."""
    config, x = TrainConfig(steps=4, batch_size=4), torch.randn(8, 2)
    fit(small(penalties={"r1": 1.0, "r2": 0.5}), (x,), config, out=tmp_path, progress=False)
    again = small(penalties={"r2": 0.5, "r1": 1})
    fit(again, (x,), config, out=tmp_path, resume=True, progress=False)
    known = json.loads(json.dumps(checkpoint.settings(again)))  # as in a file
    del known["critic_steps"]
    header = {"class": "gentext.gan:GAN", "arguments": {}}
    checkpoint.check_same_settings(again, header | {"settings": known}, tmp_path)
    later = small(penalties={"r1": 1.0, "r2": 0.5}, critic_steps=2)
    with pytest.raises(ValueError, match=r"critic_steps=\(not given\), not critic_steps=2"):
        checkpoint.check_same_settings(later, header | {"settings": known}, tmp_path)


def test_asking_a_critic_changes_nothing() -> None:
    """Neither its estimates of spectral norms, nor the mode it is in."""
    gan, x = small(spectral=True), torch.randn(5, 2)
    before = [buffer.clone() for buffer in gan.buffers()]
    first, features = gan.score(x), gan.encode(x)
    assert gan.score(x).equal(first)
    assert gan.encode(x).equal(features)
    assert all(a.equal(b) for a, b in zip(before, gan.buffers(), strict=True))
    assert all(module.training for module in gan.modules())
    gan.critic_loss(x)
    assert not gan.score(x).equal(first)
