"""Fine-tuning against closed forms, plain loops, and what must not move."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from oracles import F64, minimize, random_covariance
from small_models import CODER, GREY, IMAGE, SORTED, built, grey, labels, tokens
from torch import Tensor, nn
from torch.distributions import Independent, Normal
from torch.nn.functional import cross_entropy

import gentext as gt
from gentext import checkpoint
from gentext.core import Model
from gentext.training.config import TrainConfig
from gentext.training.train import fit
from gentext.transfer.finetuning import Finetuned, l2_sp, layer_rates, layers_of, pooled

ALL = ("fine-tuned BERT", "low-rank BERT", "fine-tuned VAE", "probed classifier")
CONFIG = TrainConfig(steps=4, batch_size=4, lr=0.01, weight_decay=0.1)
QUIET: dict[str, Any] = {"progress": False}


def bert(kind: type[gt.BERT] = gt.BERT, **more: Any) -> gt.BERT:
    return kind(vocab_size=11, context=8, layers=2, heads=2, width=8, **more)


def vae(**more: Any) -> gt.VAE:
    return gt.VAE(**CODER, **more)


# Features


def test_tokens_are_pooled_over_the_places_that_are_no_padding() -> None:
    """Against a loop over rows without their padding."""
    encoder = bert(pad=0).double().eval()
    model = Finetuned(encoder=encoder, classes=3).double().eval()
    x = tokens()
    for i, length in enumerate((8, 5, 3, 1, 8, 2)):
        x[i, length:] = 0
    features = model.features(x)
    for i, length in enumerate((8, 5, 3, 1, 8, 2)):
        row = encoder.encode(x[i : i + 1, :length])[0]
        torch.testing.assert_close(features[i], row.mean(0))
    first = Finetuned(encoder=encoder, classes=3, pool="first").double().eval()
    torch.testing.assert_close(first.features(x), encoder.encode(x)[:, 0])


def test_codes_of_any_kind_become_rows() -> None:
    x = torch.randn(4, 2, 3, 3)
    assert pooled(Independent(Normal(x, 1.0), 3)).equal(x.flatten(1))
    assert pooled(x[:, :, 0, 0]).equal(x[:, :, 0, 0])
    torch.testing.assert_close(pooled(x[:, 0]), x[:, 0].mean(1))
    assert pooled(x[:, 0], torch.tensor([[True, False, False]] * 4)).equal(x[:, 0, 0])
    with pytest.raises(ValueError, match="int64"):
        pooled(torch.ones(4, 2).long())


ENCODERS: dict[str, Any] = {
    "VAE": lambda: (vae(), grey()),
    "image VAE": lambda: (gt.ImageVAE(**GREY, channels=2, hidden=8), grey()),
    "autoencoder": lambda: (gt.Autoencoder(**CODER), grey()),
    "classifier": lambda: (gt.Classifier(**SORTED), grey()),
    "VQ-VAE": lambda: (gt.VQVAE(**IMAGE, codes=4, code_size=3, hidden=8), grey().round()),
    "GAN": lambda: (gt.ImageGAN(**IMAGE, latent=3, hidden=8), grey()),
    "BERT": lambda: (bert(), tokens()),
    "original BERT": lambda: (bert(gt.OriginalBERT, dropout=0.0), tokens()),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_every_weight_of_the_backbone_learns_and_no_other(name: str) -> None:
    """What has a gradient after one step is what ``backbone`` says; a decoder, or a player, stays.

    Of attention the bias of the keys has none, for it does not matter.
    """
    encoder, x = ENCODERS[name]()
    encoder.double()
    model = Finetuned(encoder=encoder, classes=3).double()
    x = x.double() if x.is_floating_point() else x
    model(x, labels()).backward()
    learns = {n for n, p in model.named_parameters() if p.requires_grad}
    reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == learns
    backbone = model.encoder.backbone()
    inside = {id(p) for part in backbone for p in part.parameters()}
    assert inside == {id(p) for p in model.encoder.parameters() if p.requires_grad}
    assert len(inside) < len(list(model.encoder.parameters()))
    assert encoder.represent(x).shape[0] == 6


def test_an_encoder_that_was_trained_with_classes_is_checked_as_one() -> None:
    """Its features need no labels, though its loss does."""
    encoder = gt.ImageGAN(**IMAGE, latent=3, hidden=8, classes=4)
    model = Finetuned(encoder=encoder, classes=3)
    x, y = grey(), torch.arange(6) % 3
    model.check(x, y)
    torch.testing.assert_close(model.eval().features(x), encoder.eval().encode(x).flatten(1))
    with pytest.raises(ValueError, match="none of class 2"):
        model.check(x, y.clamp(max=1))


def test_features_are_in_the_mode_of_the_model() -> None:
    model = Finetuned(encoder=bert(dropout=0.5), classes=3)
    x = tokens()
    assert not model.train().features(x).equal(model.features(x))
    assert model.eval().features(x).equal(model.features(x))
    model = Finetuned(encoder=bert(dropout=0.5), classes=3, frozen=True)
    assert model.train().features(x).equal(model.features(x))


class Bare(Model):
    """An encoder of a user's own, that only encodes."""

    shape = (3,)

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))

    def encode(self, x: Tensor) -> Tensor:
        return self.net(x)

    def loss(self, x: Tensor) -> Tensor:
        return self.net(x).square().mean()


def test_whatever_encodes_can_be_fine_tuned() -> None:
    encoder = Bare()
    model = Finetuned(encoder=encoder, classes=2, decay=0.5)
    x = torch.randn(6, 3)
    model(x, labels() % 2).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.features(x).equal(encoder.encode(x))
    flow = gt.FlowMatching(net="mlp", shape=(4,), hidden=8, layers=1)
    assert Finetuned(encoder=flow, classes=2, frozen=True).features(torch.randn(6, 4)).shape == (
        6,
        4,
    )


# What learns


def test_the_loss_is_the_cross_entropy_of_the_head_and_the_pull() -> None:
    model, (x, y) = built("fine-tuned BERT")
    model.eval()
    before = model(x, y)
    logits = model.encoder.encode(x).mean(1) @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(before, cross_entropy(logits, y))
    with torch.no_grad():
        model.encoder.blocks[0].norm1.bias.add_(0.5)
        model.encoder.bias.add_(9.0)  # of predicted tokens, which is no part of the features
    logits = model.encoder.encode(x).mean(1) @ model.head.weight.T + model.head.bias
    pull = 0.1 / 2 * 8 * 0.5**2
    torch.testing.assert_close(model(x, y), cross_entropy(logits, y) + pull)


@pytest.mark.equation("eq-pre-l2sp")
def test_the_optimum_of_a_pulled_quadratic_is_between_both() -> None:
    """(H + λI)⁻¹ (H w_t + λ w_0)."""
    H, w_t, w_0, pull = (
        random_covariance(4),
        torch.randn(4, dtype=F64),
        torch.randn(4).double(),
        0.7,
    )
    w = torch.zeros(4, dtype=F64, requires_grad=True)
    minimize(lambda: (w - w_t) @ H @ (w - w_t) / 2 + l2_sp(w, w_0, pull), [w])
    best = torch.linalg.solve(H + pull * torch.eye(4), H @ w_t + pull * w_0)
    torch.testing.assert_close(w.detach(), best, rtol=0, atol=1e-7)


def test_the_encoder_given_stays_as_it_is_and_a_frozen_one_to_the_bit() -> None:
    encoder = gt.Classifier(**SORTED, dropout=0.5)
    encoder.features.insert(3, nn.BatchNorm2d(8))  # whose running means training would change
    before = copy.deepcopy(encoder.state_dict())
    for how in ({"frozen": True}, {}):
        model = Finetuned(encoder=encoder, classes=3, **how)
        fit(model, (grey(), labels()), CONFIG, **QUIET)
        assert all(v.equal(before[k]) for k, v in encoder.state_dict().items())
        moved = [k for k, v in model.encoder.state_dict().items() if not v.equal(before[k])]
        assert bool(moved) == (not how)
    assert not model.head.weight.equal(Finetuned(encoder=encoder, classes=3).head.weight)


def test_low_rank_training_moves_the_updates_and_the_head_alone() -> None:
    model, data = built("low-rank BERT")
    before = copy.deepcopy(model.state_dict())
    fit(model, data, CONFIG, **QUIET)
    moved = {k for k, v in model.state_dict().items() if not v.equal(before[k])}
    assert moved == {k for k in before if ".A." in k or ".B." in k or k.startswith("head")}


# Learning rates


def test_rates_fall_by_a_factor_from_one_layer_to_that_below() -> None:
    model = Finetuned(encoder=bert(), classes=3, decay=0.5)
    names = {p: name for name, p in model.named_parameters()}
    rates = {names[p]: rate for p, rate in model.rates().items()}
    places = {"head": 1.0, "encoder.norm": 0.5, "encoder.blocks.1": 0.25, "encoder.blocks.0": 0.125}
    places |= {"encoder.positions": 0.5**4, "encoder.tokens": 0.5**5}
    for name, rate in rates.items():
        assert rate == next(v for place, v in places.items() if name.startswith(place)), name
    assert rates.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    assert Finetuned(encoder=bert(), classes=3).rates() == {}


def test_layers_are_what_sequences_hold() -> None:
    inner = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.ModuleList([nn.Linear(2, 2)]))
    block = nn.TransformerEncoderLayer(4, 2)
    assert layers_of([inner, nn.Dropout(), block]) == [inner[0], inner[2][0], block]
    assert set(layer_rates([inner], 0.1).values()) == {1.0, 0.1}


# Saving


@pytest.mark.parametrize("name", ALL)
def test_it_is_saved_and_loaded_with_what_it_came_with(name: str, tmp_path: Path) -> None:
    model, (x, y) = built(name)
    fit(model, (x, y), CONFIG, **QUIET)
    again = checkpoint.load(checkpoint.save(tmp_path / "m.safetensors", model))
    assert isinstance(again, Finetuned)
    assert again.logits(x).equal(model.logits(x))
    assert again(x, y).equal(model(x, y))  # and the pull is that to the same weights
    learns = [[n for n, p in m.named_parameters() if p.requires_grad] for m in (model, again)]
    assert learns[0] == learns[1]
    assert checkpoint.info(tmp_path / "m.safetensors")["arguments"]["classes"] == 3


def test_a_resumed_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    data = (tokens(), labels())
    config = {"batch_size": 4, "lr": 0.01, "weight_decay": 0.1, "save_every": 2}
    whole, half = (built("fine-tuned BERT")[0] for _ in range(2))
    fit(whole, data, TrainConfig(steps=6, **config), **QUIET)
    fit(half, data, TrainConfig(steps=4, **config), out=tmp_path, **QUIET)
    other = checkpoint.load(tmp_path)
    fit(other, data, TrainConfig(steps=6, **config), out=tmp_path, resume=True, **QUIET)
    assert all(v.equal(other.state_dict()[k]) for k, v in whole.state_dict().items())


# Words

X, Y = torch.rand(6, 1, 8, 8).round(), torch.tensor([0, 1, 2, 2, 1, 0])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"encoder": gt.GPT(vocab_size=5, context=4, layers=1, heads=1, width=4)}, "cannot encode"),
        ({"encoder": {"class": "os"}}, "whose class is one of gentext"),
        ({"encoder": gt.ConditionalVAE(**CODER, classes=3)}, "needs labels"),
        ({"encoder": gt.FlowMatching(net="mlp", shape=(4,), hidden=8)}, "frozen=True"),
        ({"encoder": gt.RealNVP(features=2)}, "attribute shape"),
        ({"classes": 1}, "classes"),
        ({"dropout": 1.0}, "dropout"),
        ({"pull": -1.0}, "pull must be at least 0"),
        ({"decay": 0.0}, "decay must be above 0"),
        ({"pool": "last"}, "pool"),
        ({"frozen": True, "pull": 0.1}, "leave some out"),
        ({"frozen": True, "decay": 0.5}, "leave some out"),
        ({"frozen": True, "lora": {"names": "encoder.*", "rank": 1}}, "leave some out"),
        ({"lora": {"rank": 1}}, "give names and rank"),
        ({"lora": {"names": "encoder.*", "rank": 1, "dropout": 0.1}}, "give names and rank"),
        ({"lora": {"names": "qkv", "rank": 1}}, "there are encoder.features.1"),
    ],
)
def test_what_cannot_be_built_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Finetuned(**{"encoder": vae(), "classes": 3} | given)


@pytest.mark.parametrize("name", ["VAE", "classifier"])
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, Y.clamp(max=1), "none of class 2"),
        (X, Y + 1, "label 3"),
        (X[:, :, :4], Y, "batch of shape"),
        (X + 1, Y, r"\[0"),
        (X, Y.double(), "float64"),
        (X, Y[:, None], r"\(6, 1\)"),
    ],
)
def test_data_that_do_not_fit_are_refused_before_training(
    name: str, x: Tensor, y: Tensor, message: str
) -> None:
    model = Finetuned(encoder=ENCODERS[name]()[0], classes=3)
    with pytest.raises(ValueError, match=message):
        fit(model, (x, y), CONFIG, **QUIET)


def test_a_batch_of_a_stream_may_lack_a_class() -> None:
    model = Finetuned(encoder=vae(), classes=3)
    history = fit(model, [(X[:2], Y[:2]), (X[2:], Y[2:])], CONFIG, **QUIET)
    assert len(history.loss) == 4
    with pytest.raises(ValueError, match="label 3"):
        fit(model, [(X, Y + 1)], CONFIG, **QUIET)


def test_predictions_are_the_most_probable_classes() -> None:
    model, (x, y) = built("fine-tuned VAE")
    best = model.eval().logits(x).argmax(1)
    assert model.predict(x).equal(best)
    assert float(model.accuracy(x, y)) == float((best == y).float().mean())
