"""K logits against a softmax of K + 1, losses against cross-entropies, whose turn it is."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gentext import metrics
from gentext.adversarial.semi_supervised_gan import (
    SemiSupervisedGAN,
    feature_matching,
    log_total,
    semi_supervised_loss,
)
from gentext.core import Classifies, Encodes, Samples
from gentext.data import Dataset
from gentext.training.config import TrainConfig
from gentext.training.train import fit

SHAPE = (1, 8, 8)
K = 4


def small(**options: Any) -> SemiSupervisedGAN:
    given = {"shape": SHAPE, "classes": K, "latent": 3, "hidden": 16, "layers": 2}
    return SemiSupervisedGAN(**given | options)


def batch(n: int = 8, labelled: int = 4) -> tuple[Tensor, Tensor]:
    y = torch.arange(n) % K
    return torch.rand(n, *SHAPE), torch.where(torch.arange(n) < labelled, y, -1)


def with_another(logits: Tensor) -> Tensor:
    """The same logits and that of samples, which is 0."""
    return torch.cat([logits, torch.zeros(len(logits), 1)], 1)


# K logits are K + 1 classes


@pytest.mark.usefixtures("float64")
@pytest.mark.equation("eq-pre-ssgan")
def test_what_a_softmax_with_another_logit_of_0_leaves_is_z_over_z_plus_1() -> None:
    logits = 3 * torch.randn(50, 10)
    D = log_total(logits).sigmoid()
    p = with_another(logits).softmax(1)
    Z = logits.exp().sum(1)
    torch.testing.assert_close(D, Z / (Z + 1), rtol=0, atol=1e-12)
    torch.testing.assert_close(D, 1 - p[:, -1], rtol=0, atol=1e-12)
    torch.testing.assert_close(p[:, :-1], D[:, None] * logits.softmax(1), rtol=0, atol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.equation("eq-pre-ssgan")
@pytest.mark.parametrize("size", [1000.0, -1000.0])
def test_logits_of_a_thousand_give_what_the_softmax_gives(size: float) -> None:
    """There Z itself is infinite, or 0."""
    logits = (size + torch.randn(6, K)).requires_grad_()
    y = torch.tensor([0, 1, 2, 3, -1, -1])
    loss = semi_supervised_loss(logits, -logits.detach(), y)
    p = with_another(logits.detach()).log_softmax(1)
    labelled = F.cross_entropy(logits.detach()[:4], y[:4])
    real = (1 - p[:, -1].exp()).log() if size > 0 else p[:, :-1].logsumexp(1)
    fake = with_another(-logits.detach()).log_softmax(1)[:, -1]
    torch.testing.assert_close(loss.detach(), labelled - real.mean() - fake.mean())
    assert torch.autograd.grad(loss, logits)[0].isfinite().all()


@pytest.mark.usefixtures("float64")
@pytest.mark.equation("eq-pre-ssgan")
def test_with_all_labels_the_loss_is_the_cross_entropy_of_k_plus_1_classes() -> None:
    real, fake, y = torch.randn(7, K), torch.randn(7, K), torch.arange(7) % K
    expected = F.cross_entropy(with_another(real), y)
    expected += F.cross_entropy(with_another(fake), torch.full((7,), K))
    torch.testing.assert_close(semi_supervised_loss(real, fake, y), expected, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.equation("eq-pre-ssgan")
def test_of_examples_without_a_label_it_is_asked_only_whether_they_are_data() -> None:
    real, fake = torch.randn(6, K), torch.randn(6, K)
    y = torch.tensor([2, -1, 0, -1, -1, 3])
    total = 0.0
    for k, label in enumerate(y.tolist()):
        Z, made = (float(logits[k].exp().sum()) for logits in (real, fake))
        if label >= 0:
            total -= math.log(math.exp(real[k, label]) / Z) / 3
        total -= (math.log(Z / (Z + 1)) + math.log(1 / (made + 1))) / 6
    assert float(semi_supervised_loss(real, fake, y)) == pytest.approx(total, rel=1e-12)
    none = semi_supervised_loss(real, fake, torch.full((6,), -1))
    whole = -F.logsigmoid(real.logsumexp(1)).mean() - F.logsigmoid(-fake.logsumexp(1)).mean()
    torch.testing.assert_close(none, whole)


@pytest.mark.usefixtures("float64")
def test_the_features_are_matched_in_the_mean() -> None:
    real, fake = torch.randn(9, 5), torch.randn(9, 5)
    expected = sum(float(real[:, k].mean() - fake[:, k].mean()) ** 2 for k in range(5))
    assert float(feature_matching(real, fake)) == pytest.approx(expected, rel=1e-12)
    assert feature_matching(real, real.flip(0)) == pytest.approx(0, abs=1e-24)


# The game


@pytest.mark.parametrize("generator_loss", ["feature-matching", "non-saturating"])
@pytest.mark.parametrize("net", ["mlp", "dcgan"])
def test_each_turn_moves_its_own_player(generator_loss: str, net: str) -> None:
    networks = {"generator": net, "critic": net, "generator_loss": generator_loss}
    sizes = {"hidden": 16, "layers": 2} if net == "mlp" else {"channels": 8}
    gan = SemiSupervisedGAN(shape=SHAPE, classes=K, latent=3, **networks, **sizes)
    for turn, mine, other in [
        ("critic_loss", gan.critic, gan.generator),
        ("generator_loss", gan.generator, gan.critic),
    ]:
        gan.zero_grad()
        gan(*batch(), turn=turn).backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in mine.parameters())
        assert all(p.grad is None for p in other.parameters())


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("matches", [True, False])
def test_the_losses_are_those_of_data_and_samples_on_one_scale(matches: bool) -> None:
    gan = small(generator_loss="feature-matching" if matches else "non-saturating")
    x, y = batch()
    torch.manual_seed(1)
    made = gan.generator(torch.randn(8, 3))
    real, fake = ((gan.critic.last(gan.critic.features(v))) for v in (2 * x - 1, made))
    torch.manual_seed(1)
    torch.testing.assert_close(gan.loss(x, y), semi_supervised_loss(real, fake, y))
    torch.manual_seed(1)
    if matches:
        means = [gan.critic.features(v).mean(0) for v in (2 * x - 1, made)]
        expected = (means[0] - means[1]).square().sum()
    else:
        expected = F.softplus(-fake.logsumexp(1)).mean()
    torch.testing.assert_close(gan.generator_loss(x, y), expected)


def test_what_it_says_of_examples_is_what_the_critic_sees_in_them() -> None:
    gan, (x, y) = small(), batch(labelled=8)
    assert isinstance(gan, Classifies)
    assert isinstance(gan, Samples)
    assert isinstance(gan, Encodes)
    logits, codes = gan.logits(x), gan.encode(x)
    assert codes.shape == (8, 16)
    torch.testing.assert_close(gan.critic.last(codes), logits)
    assert gan.predict(x).equal(logits.argmax(1))
    assert gan.accuracy(x, y) == (logits.argmax(1) == y).float().mean()
    torch.testing.assert_close(gan.score(x), logits.exp().sum(1).log())
    torch.testing.assert_close(gan.score(x, y), logits[torch.arange(8), y])


def test_samples_are_images_of_no_class_in_particular() -> None:
    gan = small()
    first, again = (gan.sample(5, generator=torch.Generator().manual_seed(2)) for _ in range(2))
    assert first.equal(again)
    assert first.shape == (5, *SHAPE)
    assert first.min() >= 0
    assert first.max() <= 1
    path = gan.interpolate(torch.randn(2, 3), torch.randn(2, 3), 4)
    assert path.shape == (2, 4, *SHAPE)
    with pytest.raises(ValueError, match="labels"):
        gan.sample(2, torch.tensor([0, 1]))


def stripes(n: int) -> tuple[Tensor, Tensor]:
    """Images whose class is which quarter of them is bright."""
    y = torch.arange(n) % K
    x = 0.5 * torch.rand(n, *SHAPE)
    for k in range(K):
        x[y == k, :, :, 2 * k : 2 * k + 2] += 0.5
    return x, y


def test_two_labels_a_class_are_enough_where_classes_are_far_apart() -> None:
    x, y = stripes(400)
    few = torch.where(torch.arange(400) < 2 * K, y, -1)
    gan = small(hidden=32)
    config = TrainConfig(steps=150, batch_size=64, lr=2e-3, betas=(0.5, 0.9))
    history = fit(gan, (x, few), config, progress=False)
    assert {*history.losses} == {"critic_loss", "generator_loss"}
    rows = stripes(200)
    assert gan.accuracy(*rows) > 0.95
    data = Dataset(
        name="stripes", shape=SHAPE, classes=tuple("abcd"), levels=None,
        train=rows, validation=rows, test=rows,
    )  # fmt: skip
    assert metrics.evaluate(gan, data)["accuracy"] == pytest.approx(float(gan.accuracy(*rows)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 1}, "classes must be a whole number, at least 2"),
        ({"generator_loss": "feature"}, "did you mean 'feature-matching'"),
        ({"critic": "cnn"}, "unknown critic"),
        ({"width": 3}, "got width"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_labels_are_from_minus_1_on_and_needed_to_train() -> None:
    gan, (x, y) = small(), batch()
    gan.check(x, y)
    for wrong in (y - 1, y + K):
        with pytest.raises(ValueError, match="label"):
            gan.check(x, wrong)
    with pytest.raises(ValueError, match="label -1"):
        gan.accuracy(x, y)
