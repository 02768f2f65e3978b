"""VAEs with labels: each class against its own model, sums over classes by enumeration."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn
from torch.distributions import Categorical

from gentext.core import Bound, Classifies, Density, Encodes, Samples
from gentext.latent.conditional_vae import ConditionalVAE, SemiSupervisedVAE, marginal_bound
from gentext.latent.vae import IWAE, VAE, active_units, importance_bound

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.equation("eq-vae-m2")
def test_summing_the_class_out_is_a_bound_and_tight_at_the_exact_classifier() -> None:
    joint = torch.tensor([0.10, 0.02, 0.06])  # p(x, y) for the x at hand
    evidence = joint.sum().log()
    for _ in range(20):
        q = Categorical(logits=torch.randn(1, 3))
        assert marginal_bound(q, joint.log()[None]) <= evidence + 1e-12
    exact = Categorical(probs=joint[None] / joint.sum())
    torch.testing.assert_close(marginal_bound(exact, joint.log()[None])[0], evidence)


@pytest.mark.equation("eq-vae-m2")
def test_m2_loss_takes_each_example_by_what_is_known_of_it() -> None:
    model = SemiSupervisedVAE(
        shape=(4,), latent=2, hidden=8, classes=3, likelihood="normal", scale=1.0, alpha=2.5
    ).double()
    x, y = torch.randn(5, 4), torch.tensor([2, -1, 0, -1, 1])
    torch.manual_seed(11)
    loss = model.loss(x, y)
    torch.manual_seed(11)
    bounds, q = model.bounds(x), model.classify(x)
    total = 0.0
    for i, label in enumerate(y.tolist()):
        if label >= 0:
            total += bounds[i, label] + 2.5 * q.logits[i, label]
        else:
            p = q.probs[i]
            total += (p * bounds[i]).sum() - (p * p.log()).sum()
    torch.testing.assert_close(loss, -total / 5)


def test_m2_bounds_stand_in_the_order_of_the_classes() -> None:
    model = SemiSupervisedVAE(
        shape=(4,), latent=2, hidden=8, classes=3, likelihood="normal", scale=1.0
    ).double()
    x = torch.randn(5, 4)
    with torch.no_grad():
        many = model.bounds(x.repeat(3000, 1)).unflatten(0, (3000, 5))
        for label in range(3):
            y = torch.full((15_000,), label)
            single = model.joint_elbo(x.repeat(3000, 1), y).unflatten(0, (3000, 5))
            error = (many[..., label].var(0) + single.var(0)).div(3000).sqrt()
            assert ((many[..., label].mean(0) - single.mean(0)).abs() < 4.5 * error).all()


def test_m2_importance_bound_sums_the_class_out() -> None:
    """A decoder that ignores z makes the bound exact: log of the mean over classes of p(x | y)."""
    model = SemiSupervisedVAE(
        shape=(4,), latent=2, hidden=8, classes=3, net="linear", likelihood="normal", scale=1.0
    ).double()
    with torch.no_grad():
        model.decoder.network.weight[:, :2] = 0
    x = torch.randn(5, 4)
    z = torch.zeros(5, 2)
    exact = torch.stack([model.decode(z, torch.full((5,), c)).log_prob(x) for c in range(3)])
    with torch.no_grad():
        model.encoder.head.weight.zero_()
        model.encoder.head.bias.zero_()  # q is the prior, so every weight is p(x | y)
    expected = exact.logsumexp(0).detach() - math.log(3)
    torch.testing.assert_close(model.importance_log_prob(x, 3), expected)
    with pytest.raises(ValueError, match="needs labels y from 0 to 2"):
        model.encode(x)


def test_joint_bound_is_the_conditional_bound_and_the_prior_of_the_class() -> None:
    model = SemiSupervisedVAE(
        shape=(4,), latent=2, hidden=8, classes=3, likelihood="normal", scale=1.0
    ).double()
    x, y = torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
    torch.manual_seed(2)
    reconstruction, kl = model.elbo_terms(x, y)
    torch.manual_seed(2)
    torch.testing.assert_close(
        model.joint_elbo(x, y), reconstruction - kl + torch.tensor(1 / 3).log()
    )


def test_conditional_vae_depends_on_the_class() -> None:
    model = ConditionalVAE(shape=(1, 8, 8), classes=3, latent=2, hidden=32, net="conv").double()
    z = torch.randn(1, 2)
    images = [model.decode(z, torch.tensor([label])).mean for label in range(3)]
    assert all((a - b).abs().max() > 1e-4 for a, b in itertools.combinations(images, 2))
    assert model.sample(4).shape == (4, 1, 8, 8)
    y = torch.tensor([0, 1, 2, 0])
    assert model.elbo(torch.rand(4, 1, 8, 8).round(), y).shape == (4,)


def test_labels_go_through_interpolation_and_the_count_of_active_codes() -> None:
    model = ConditionalVAE(shape=(4,), latent=2, classes=3, hidden=8).double()
    x, y = torch.rand(3, 4), torch.tensor([0, 1, 2])
    path = model.interpolate(x, x.flip(0), steps=4, y=y)
    torch.testing.assert_close(path[:, 0], model.reconstruct(x, y))
    assert 0 <= active_units(model, x, y=y) <= 2


def test_a_class_only_moves_the_first_layer_after_the_labels() -> None:
    """Given y, the networks are those of a VAE without labels, with column y in their biases."""
    model = ConditionalVAE(shape=(4,), latent=2, classes=3, net="linear", likelihood="normal")
    x, z = torch.randn(5, 4), torch.randn(5, 2)
    for label in range(3):
        plain = VAE(shape=(4,), latent=2, net="linear", likelihood="normal")
        with torch.no_grad():
            for ours, theirs, inputs in (
                (plain.encoder.head, model.encoder.head, 4),
                (plain.decoder.network, model.decoder.network, 2),
            ):
                ours.weight.copy_(theirs.weight[:, :inputs])
                ours.bias.copy_(theirs.bias + theirs.weight[:, inputs + label])
        y = torch.full((5,), label)
        torch.testing.assert_close(model.encode(x, y).mean, plain.encode(x).mean)
        torch.testing.assert_close(model.decode(z, y).mean, plain.decode(z).mean)
        torch.manual_seed(1)
        conditional = model.elbo(x, y)
        torch.manual_seed(1)
        torch.testing.assert_close(conditional, plain.elbo(x))


def test_a_vae_of_classes_is_the_conditional_vae() -> None:
    x, y, losses = torch.rand(5, 4), torch.tensor([0, 1, 2, 0, 1]), []
    for kind in (VAE, ConditionalVAE):
        torch.manual_seed(1)
        losses.append(kind(shape=(4,), latent=2, classes=3, hidden=8).loss(x, y))
    assert losses[0].equal(losses[1])


def test_the_importance_weighted_vae_may_be_conditional() -> None:
    model = IWAE(shape=(4,), latent=2, classes=3, hidden=8, k=4)
    x, y = torch.rand(5, 4).round(), torch.tensor([0, 1, 2, 0, 1])
    torch.manual_seed(1)
    loss = model.loss(x, y)
    torch.manual_seed(1)
    torch.testing.assert_close(loss, -importance_bound(model.log_weights(x, y, k=4)).mean())


def test_samples_without_labels_are_of_all_classes_alike() -> None:
    model = ConditionalVAE(
        shape=(1,), latent=1, classes=4, net="linear", likelihood="normal", scale=0.1
    )
    with torch.no_grad():
        model.decoder.network.weight.copy_(torch.tensor([[0.0, 0.0, 10.0, 20.0, 30.0]]))
        model.decoder.network.bias.zero_()
    first, again = (model.sample(4000, generator=torch.Generator().manual_seed(2)) for _ in "ab")
    assert first.equal(again)
    counts = (first[:, 0] / 10).round().long().bincount()
    assert len(counts) == 4
    assert (counts - 1000).abs().max() < 4 * math.sqrt(4000 * 3 / 16)
    y = torch.tensor([0, 1, 2, 3])
    torch.testing.assert_close(model.sample(4, y, mean=True), 10.0 * y[:, None])


def test_accuracy_is_the_share_of_classes_that_q_finds() -> None:
    model = SemiSupervisedVAE(shape=(3,), latent=2, classes=3, net="linear")
    with torch.no_grad():
        model.classifier.head.weight.copy_(torch.eye(3))
        model.classifier.head.bias.zero_()
    x, y = torch.eye(3).repeat(2, 1), torch.tensor([0, 1, 2, 0, 2, 1])
    assert float(model.accuracy(x, y)) == pytest.approx(4 / 6)
    assert model.accuracy(x, model.classify(x).probs.argmax(1)) == 1


def test_capabilities_are_those_that_exist() -> None:
    conditional = ConditionalVAE(shape=(4,), latent=2, classes=3)
    m2 = SemiSupervisedVAE(shape=(4,), latent=2, classes=3)
    for model in (conditional, m2):
        assert isinstance(model, Samples)
        assert isinstance(model, Bound)
        assert isinstance(model, Encodes)
        assert not isinstance(model, Density)
    assert isinstance(m2, Classifies)
    assert not isinstance(conditional, Classifies)


def test_labels_that_do_not_fit_are_refused() -> None:
    labelled = ConditionalVAE(shape=(4,), latent=2, classes=3).double()
    with pytest.raises(ValueError, match=r"label 3.*3 classes"):
        labelled.check(torch.rand(2, 4).round(), torch.tensor([0, 3]))
    for y, message in [
        (torch.tensor([0, -1]), r"label -1.*from 0 to 2"),
        (torch.tensor([0.0, 1.0]), r"float64.*integers"),
        (torch.tensor([0]), r"shape \(1,\), but 2 examples"),
    ]:
        with pytest.raises(ValueError, match=message):
            labelled.check(torch.rand(2, 4).round(), y)
    with pytest.raises(ValueError, match=r"label -1"):
        labelled.elbo(torch.rand(2, 4).round(), torch.tensor([0, -1]))
    few = SemiSupervisedVAE(shape=(4,), latent=2, classes=3).double()
    few.check(torch.rand(2, 4).round(), torch.tensor([-1, 2]))
    for wrong in ({"beta": 2.0}, {"net": (nn.Identity(), nn.Identity())}):
        with pytest.raises(ValueError, match=r"no beta|by name"):
            SemiSupervisedVAE(shape=(4,), latent=2, classes=3, **wrong)
    with pytest.raises(ValueError, match=r"label 3.*3 classes"):
        few.accuracy(torch.rand(2, 4).round(), torch.tensor([0, 3]))
    with pytest.raises(ValueError, match=r"needs labels y from 0 to 2"):
        labelled.loss(torch.rand(2, 4).round())


def test_models_of_less_than_two_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="classes=1; classes must be a whole number, at least 2"):
        ConditionalVAE(shape=(4,), latent=2, classes=1)
    with pytest.raises(ValueError, match="classes=0"):
        SemiSupervisedVAE(shape=(4,), latent=2, classes=0)
