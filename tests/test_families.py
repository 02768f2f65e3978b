"""What holds for every public method of every family: modes, numbers and integers of any type."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from oracles import F64
from small_models import FAMILIES, Batch, Family, moved
from torch import Tensor, nn
from torch.distributions import Independent

import gentext as gt
from gentext import checkpoint
from gentext.core import Model

FIRST = {family.kind.__name__: family for family in reversed(FAMILIES.values())}
NAMES = sorted(FIRST.keys() - {"Reflow"})  # which is a flow and its training
WITHOUT_DROPOUT = ("AE", "Autoencoder", "GAN")
# In the mode that the model is in, for losses are made of them; or nothing of a network.
EXEMPT = {
    *("loss", "critic_loss", "generator_loss", "logits", "begin", "step", "read", "extend"),
    *("carry", "features", "embed", "images", "turned", "init_weights", "prior_log_prob"),
    *("represent", "backbone"),
    *("pooled", "next_sentence_logits"),
    *("check_tokens", "from_data", "to_data", "density", "denoiser", "sample_options", "fit_scale"),
}
PAIRS = [
    (name, method)
    for name in NAMES
    for method, what in inspect.getmembers(FIRST[name].kind, callable)
    if not method.startswith("_") and method not in {*dir(Model), *EXEMPT}
    if (name, method)
    not in {("BERT", "encode"), ("OriginalBERT", "encode")}  # which fine-tuning builds on
]
SOLVING = (gt.ScoreSDE, gt.ImageScoreSDE, gt.FlowMatching, gt.ImageFlowMatching)  # an equation
DRAWS = ("sample", "trajectory", "gibbs_sample")


@pytest.fixture(autouse=True)
def _unchecked() -> Iterator[None]:
    """Without the checks of shapes, as users have it: what is wrong meets the package's own."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def tiny(name: str) -> Any:
    """The model of this name, in training mode, after a while of training."""
    model = FIRST[name].model()
    without = name.endswith(WITHOUT_DROPOUT) and "dropout" not in FIRST[name].given
    return moved(disturbed(model) if without else model)


def disturbed(model: Any) -> Any:
    """The same model with dropout and batch normalisation before each linear layer."""
    for name, child in list(model.named_children()):
        if type(child) is nn.Linear:
            norm: nn.Module = nn.BatchNorm1d(child.in_features)
        elif type(child) is nn.Conv2d:
            norm = nn.BatchNorm2d(child.in_channels)
        else:
            disturbed(child)
            continue
        setattr(model, name, nn.Sequential(nn.Dropout(0.5), norm, child))
    return model


def batch(name: str) -> Batch:
    """Data for it, the same each time."""
    torch.manual_seed(1)
    return FIRST[name].batch()


def arguments(model: Any, method: str, x: Tensor, *rest: Tensor) -> dict[str, Any]:
    """Something for every argument that the method cannot do without, or that makes it fast."""
    known: dict[str, Any] = dict.fromkeys(("x", "x_t", "tokens", "source", "a", "b"), x)
    known |= {"y": rest[0] if rest else None, "target": rest[0] if rest else None}
    known |= dict.fromkeys(("segments", "lengths"), rest[0] if rest else None)
    known |= dict.fromkeys(("steps", "length", "n", "terms"), 3)
    known |= dict.fromkeys(("width", "rows", "k", "sweeps", "repeats", "draws"), 2)
    known |= {"positions": [1, 3], "mask": x > 0.5, "masked": x > 6}
    known["t"] = torch.arange(6) + 2 if isinstance(model, gt.Diffusion) else 0.5
    known["log_snr"] = torch.linspace(-3, 3, 6) if isinstance(model, gt.NoisyClassifier) else 0.5
    if method == "any_order_log_prob":
        known["order"] = range(x.shape[1])
    if method == "generate":
        known["tokens"] = x[:, :3]
    if method in DRAWS:
        del known["tokens"]
        known["y"] = None if known["y"] is None else known["y"][:3]
    if isinstance(model, gt.GAN):
        known |= dict.fromkeys(("z", "a", "b"), torch.randn(6, model.latent))
        if not model.told and method in ("decode", "sample", "interpolate"):
            known["y"] = None
    elif method == "decode":
        more = {"steps": 3} if isinstance(model, SOLVING) else {}
        z = copy.deepcopy(model).eval().encode(x, *rest[: "y" in names(model.encode)], **more)
        known |= dict.fromkeys(("z", "eps", "codes"), z.mean if isinstance(z, Independent) else z)
    wanted = names(getattr(model, method))
    if isinstance(model, SOLVING) and "how" in wanted:
        wanted.append("steps")
    return {name: known[name] for name in wanted if name in known}


def names(method: Any) -> list[str]:
    return list(inspect.signature(method).parameters)


def flat(value: Any) -> list[Tensor]:
    """All tensors in what a method gave."""
    if isinstance(value, Tensor):
        return [value.detach()]
    if isinstance(value, torch.distributions.Distribution):
        return [value.mean.detach()] if isinstance(value, Independent) else [value.logits.detach()]
    if isinstance(value, float | int):
        return [torch.tensor(value)]
    assert isinstance(value, tuple | list | Iterator)
    return [tensor for part in value for tensor in flat(part)]


@pytest.mark.parametrize(("name", "method"), PAIRS)
def test_a_method_computes_in_evaluation_mode_and_leaves_the_model_as_it_was(
    name: str, method: str
) -> None:
    model = tiny(name).train()
    given = arguments(model, method, *batch(name))
    state, modes = copy.deepcopy(model.state_dict()), [part.training for part in model.modules()]
    twin = copy.deepcopy(model).eval()
    made = []
    for m in (model, twin):
        torch.manual_seed(2)
        made.append(flat(getattr(m, method)(**given)))
    assert made[0]
    for ours, theirs in zip(*made, strict=True):
        assert ours.equal(theirs)
    assert [part.training for part in model.modules()] == modes
    assert all(state[key].equal(value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_stays_in_the_mode_that_the_model_is_in(name: str) -> None:
    """Where there is dropout, or where labels are hidden, each call is another one."""
    model = tiny(name).train()
    losses = []
    for training in (True, False):
        torch.manual_seed(2)
        losses.append(float(model.train(training)(*batch(name)).detach()))
    assert (losses[0] == losses[1]) == (name in ("MADE", "IAF", "Glow"))


DIFFERENTIABLE = [
    pair for pair in PAIRS
    if pair[1] in ("log_prob", "elbo", "encode", "score", "pseudo_log_prob", "class_log_prob")
    and pair not in {("FlowMatching", "log_prob"), ("FlowMatching", "encode"),
                     ("ImageFlowMatching", "elbo"), ("ImageFlowMatching", "encode"),
                     ("VQVAE", "encode")}
]  # fmt: skip


@pytest.mark.parametrize(("name", "method"), DIFFERENTIABLE)
def test_what_can_be_differentiated_still_can(name: str, method: str) -> None:
    model = tiny(name).train()
    made = getattr(model, method)(**arguments(model, method, *batch(name)))
    value = made.mean if isinstance(made, Independent) else made
    if name == "LatentDiffusion" and method == "encode":  # of an autoencoder that stays as it is
        assert not value.requires_grad
        return
    value.sum().backward()
    assert any(p.grad is not None and bool((p.grad != 0).any()) for p in model.parameters())


# Numbers of any library as arguments


def from_numpy(value: Any) -> Any:
    """The same numbers as NumPy has them."""
    if isinstance(value, tuple):
        return np.array(value)
    if isinstance(value, dict):
        return {name: from_numpy(v) for name, v in value.items()}
    kinds = {bool: np.bool_, int: np.int64, float: np.float64, str: np.str_}
    return kinds[type(value)](value) if type(value) in kinds else value


def from_tensors(value: Any) -> Any:
    """The same numbers as tensors, shapes as tensors have them."""
    if isinstance(value, tuple):
        whole = all(isinstance(v, int) for v in value)
        return torch.Size(value) if whole else [torch.tensor(v, dtype=F64) for v in value]
    if isinstance(value, bool | int | float):
        return torch.tensor(value, dtype=F64 if isinstance(value, float) else None)
    return value


OF_NUMBERS = [n for n in NAMES if not any(isinstance(v, Family) for v in FIRST[n].given.values())]


@pytest.mark.parametrize("other", [from_numpy, from_tensors])
@pytest.mark.parametrize("name", OF_NUMBERS)
def test_numbers_of_other_libraries_build_the_same_model(
    name: str, other: Any, tmp_path: Path
) -> None:
    given, kind = FIRST[name].given, FIRST[name].kind
    made = []
    for arguments in (given, {key: other(value) for key, value in given.items()}):
        torch.manual_seed(0)
        made.append(kind(**arguments).eval())
    model, twin = made
    assert json.dumps(model.arguments) == json.dumps(twin.arguments)
    again = checkpoint.load(checkpoint.save(tmp_path / "model.safetensors", twin))
    for m in (twin, again):
        state = m.state_dict()
        for key, value in model.state_dict().items():
            assert value.equal(state[key])
            assert value.dtype == state[key].dtype


# Integers of any type

TOKENS = [n for n in NAMES if not batch(n)[0].is_floating_point()]
WHOLE = ("log_prob", "log_probs", "pseudo_log_prob", "elbo")
PAIRED = ("Seq2Seq", "EncoderDecoder", "MaskedSpeechEncoder")  # with what are no labels
LABELS = [n for n in NAMES if len(batch(n)) == 2 and n not in PAIRED]
SMALL = [torch.uint8, torch.int8, torch.int16, torch.int32]


@pytest.mark.parametrize("dtype", SMALL)
@pytest.mark.parametrize("name", [*TOKENS, *LABELS])
def test_integers_of_any_type_are_the_same_tokens_and_labels(name: str, dtype: torch.dtype) -> None:
    model, rows = tiny(name).eval(), batch(name)
    others = tuple(t if t.is_floating_point() else t.to(dtype) for t in rows)
    model.check(*others)
    known = [method for n, method in PAIRS if n == name] if dtype == torch.uint8 else []
    values = []
    for given in (rows, others):
        torch.manual_seed(2)
        values.append([model(*given).detach()])
        for method in known:
            torch.manual_seed(2)
            values[-1] += flat(getattr(model, method)(**arguments(model, method, *given)))
    for ours, theirs in zip(*values, strict=True):
        assert ours.equal(theirs.to(ours.dtype))


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y.double(), "float64.*integers"),
        (lambda y: y > 0, "bool.*integers"),
        (lambda y: y + 1, "label 3"),
        (lambda y: y - 2, "label -2"),
        (lambda y: y[:, None], r"\(6, 1\)"),
        (lambda y: y[:4], r"\(4,\)"),
        (lambda y: y.tolist(), "got .*list.*tensor"),
    ],
)
def test_what_are_no_labels_is_refused(name: str, change: Any, message: str) -> None:
    model, (x, y) = tiny(name), batch(name)
    with pytest.raises(ValueError, match=message):
        model.check(x, change(y))
    told = [m for n, m in PAIRS if n == name and m in ("elbo", "accuracy", "score", "log_prob")]
    for method in told:
        if name == "SemiSupervisedVAE" and method == "elbo":  # which does not look at them
            continue
        with pytest.raises(ValueError, match=message):
            getattr(model, method)(x, change(y))


@pytest.mark.parametrize("name", TOKENS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.double(), "float64.*integers"),
        (lambda x: x > 0, "bool.*integers"),
        (lambda x: x + 9, "from .* to .*, but this vocabulary is 0 to"),
        (lambda x: x - 9, "from -.* to .*, but this vocabulary is 0 to"),
        (lambda x: x[0], r"shape \(.*,\).*\(n, t\)"),
        (lambda x: x[:, :0], "6 rows of 0"),
        (lambda x: x[:0], "0 rows of"),
        (lambda x: x.numpy(), "got .*(ndarray|NumPy array).*torch.as_tensor"),
    ],
)
def test_what_are_no_tokens_is_refused(name: str, change: Any, message: str) -> None:
    model, rows = tiny(name), tuple(change(t) if t.ndim == 2 else t for t in batch(name))
    calls = [model.check, model.loss]
    calls += [getattr(model, m) for n, m in PAIRS if n == name and m in WHOLE]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call(*rows)
