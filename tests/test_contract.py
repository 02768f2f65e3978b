"""What holds for every experiment of the book, and for every model on every device."""

from __future__ import annotations

import copy
import functools
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pytest
import torch
from torch import Tensor

from gentext import checkpoint, recipes
from gentext.core import Bound, Encodes, Model, Samples
from gentext.denoising.latent_diffusion import LatentDiffusion
from gentext.flows.dequantization import Dequantized
from gentext.latent.conditional_vae import SemiSupervisedVAE
from gentext.recipes import RECIPES, Experiment
from gentext.sequences.autoregressive import Autoregressive

NAMES = list(RECIPES)
AUTOREGRESSIVE = [name for name in NAMES if name.startswith(("recurrent", "gpt"))]


@pytest.fixture(params=NAMES)
def experiment(request: pytest.FixtureRequest) -> Experiment:
    (model, data, config), state = built(request.param)
    torch.set_rng_state(state)
    return copy.deepcopy(model), data, config


@functools.cache
def built(name: str) -> tuple[Experiment, Tensor]:
    """The experiment, of which the data are prepared only once, and the random state after it."""
    torch.manual_seed(0)
    return recipes.build(name, "quick"), torch.get_rng_state()


@runtime_checkable
class HasTerms(Protocol):
    """Gives the bound term by term."""

    def elbo_terms(self, x: Tensor, *labels: Tensor) -> tuple[Tensor, ...]:
        """The terms, in nats."""


def batch(experiment: Experiment, n: int = 16) -> tuple[Tensor, ...]:
    """Some training examples; of tokens fewer, and of long rows the beginning."""
    rows = experiment[1].train
    if rows[0].is_floating_point():
        return tuple(t[:n] for t in rows)
    return tuple(t[: n // 4][..., :64] for t in rows)


def test_gradients_reach_every_parameter(experiment: Experiment) -> None:
    """A last layer that begins at zero lets those before it learn from the second step on.

    Gates that begin at zero before such a layer delay what is inside by another step.
    """
    model = experiment[0]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    for _ in range(3):
        optimizer.step()
        optimizer.zero_grad()
        for turn in model.turns():
            model(*batch(experiment), turn=turn).backward()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:  # of an autoencoder that stays as it is, or of no features
            assert name.startswith("autoencoder.") or name == "encoder.bias"
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_few_steps_lower_the_loss(experiment: Experiment) -> None:
    model, x = experiment[0], batch(experiment, 64)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    small = x[0].is_floating_point() and x[0][0].numel() < 500
    for _ in range(40 if small else 12):
        optimizer.zero_grad()
        loss = model(*x)
        assert loss.shape == ()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-4:]) < sum(losses[:4])


def test_what_a_model_can_do_has_the_right_shape(
    experiment: Experiment, request: pytest.FixtureRequest
) -> None:
    model, x = experiment[0], batch(experiment, 5)
    images = x[0]
    name = request.node.callspec.params["experiment"]
    assert isinstance(model, Autoregressive) == (name in AUTOREGRESSIVE)
    if isinstance(model, Autoregressive):
        drawn = model.sample(2, length=9)
        assert drawn.shape == (2, 9)
        assert drawn.min() >= 0
        assert drawn.max() < model.vocab_size
    elif isinstance(model, Samples):
        drawn = model.sample(3)
        assert drawn.shape == (3, *experiment[1].shape)
        assert drawn.isfinite().all()
    if isinstance(model, Bound):
        bound = model.elbo(images, *(labels.clamp_min(0) for labels in x[1:]))
        assert bound.shape == (len(images),)
        assert bound.isfinite().all()
    if isinstance(model, Encodes) and not getattr(model, "classes", 0):
        codes = model.encode(images)
        codes = codes if isinstance(codes, Tensor) else codes.mean
        assert codes.shape[0] == len(images)
        assert codes.isfinite().all()


def outputs(model: Model, x: tuple[Tensor, ...]) -> Tensor:
    torch.manual_seed(3)
    with torch.no_grad():
        return model(*x)


def test_save_and_load_give_the_same_outputs(experiment: Experiment, tmp_path: Path) -> None:
    model, x = experiment[0].eval(), batch(experiment)
    file = tmp_path / "model.safetensors"
    checkpoint.save(file, model)
    again = checkpoint.load(file)
    assert type(again) is type(model)
    assert outputs(again, x).equal(outputs(model, x))


def test_loss_backward_and_sampling_create_no_tensor_on_another_device(
    experiment: Experiment,
) -> None:
    """On the meta device a tensor made on the CPU by mistake fails as it would on a GPU."""
    model = experiment[0].to("meta")
    x = tuple(t.to("meta") for t in batch(experiment))
    loss = model(*x)
    loss.backward()
    assert loss.device.type == "meta"
    if isinstance(model, Bound) and not isinstance(model, SemiSupervisedVAE):
        if isinstance(model, HasTerms):
            bound = model.elbo_terms(*x)[0]
        else:
            bound = model.elbo(*x, **few_steps(model, "elbo"))
        assert bound.device.type == "meta"
    if isinstance(model, Autoregressive):
        assert model.sample(2, length=3).device.type == "meta"
    elif isinstance(model, Samples):
        assert model.sample(2, **few_steps(model, "sample")).device.type == "meta"


def few_steps(model: Any, name: str) -> dict[str, int]:
    """A first, a last and steps between, where a method takes a number of steps or passes it on."""
    parameters = inspect.signature(getattr(model, name)).parameters
    if "steps" in parameters:
        return {"steps": 4} if isinstance(parameters["steps"].default, int) else {}
    if isinstance(model, Dequantized):
        return few_steps(model.density, {"elbo": "log_prob"}.get(name, name))
    return few_steps(model.diffusion, name) if isinstance(model, LatentDiffusion) else {}


@pytest.mark.parametrize("experiment", AUTOREGRESSIVE, indirect=True)
def test_the_density_is_what_generation_draws_from(experiment: Experiment) -> None:
    """Token by token from the memory; over the next token it sums to one, that of ``pad`` less."""
    model, x = experiment[0].double().eval(), experiment[1].test[0][:3, :10]
    with torch.no_grad():
        state, token, log_p = model.begin(len(x), 10), x.new_full((len(x),), model.bos), 0.0
        for following in x.T:
            logits, state = model.step(token, state)
            token = following
            log_p = log_p + logits.log_softmax(-1).gather(1, token[:, None])[:, 0]
        torch.testing.assert_close(model.log_prob(x), log_p)
        torch.testing.assert_close(model.loss(x), -log_p.mean() / 10)
        start = x[:1, :4].expand(model.vocab_size, 4)
        longer = torch.cat([start, torch.arange(model.vocab_size)[:, None]], dim=1)
        p = (model.log_prob(longer) - model.log_prob(start)).exp()
        after_bos = torch.cat([x.new_tensor([[model.bos]]), x[:1, :4]], dim=1)
        expected = model.logits(after_bos)[0, -1].softmax(-1)
        if model.pad is not None:  # which fills rows up and counts nothing
            assert p[model.pad] == 1
            p[model.pad] = expected[model.pad]
        torch.testing.assert_close(p, expected)


@pytest.mark.parametrize("experiment", AUTOREGRESSIVE, indirect=True)
def test_no_prediction_depends_on_what_comes_later(experiment: Experiment) -> None:
    model = experiment[0].double().eval()
    x = torch.randint(model.vocab_size, (1, 12))
    with torch.no_grad():
        before = model.logits(x)
        for t in (0, 5, 11):
            changed = x.clone()
            changed[0, t] = (x[0, t] + 1) % model.vocab_size
            after = model.logits(changed)
            assert after[:, :t].equal(before[:, :t])
            assert not after[:, t].equal(before[:, t])


def test_the_loss_in_bfloat16_is_near_that_in_float32(experiment: Experiment) -> None:
    model, x = experiment[0], batch(experiment, 64)
    exact = outputs(model, x)
    with torch.autocast("cpu", torch.bfloat16):
        rough = outputs(model, x)
    assert rough.isfinite()
    assert abs(float(rough - exact)) < 0.05 * abs(float(exact)) + 1


COMPILED = (
    *("vae_digits", "autoencoder_digits", "m2_digits", "gpt_digits", "seq2seq_en_zh"),
    *("nsf_moons", "maf_shuttle", "nsf_variational_digits", "glow_fashion"),
    *("diffusion_mlp_digits", "diffusion_digits", "diffusion_fashion"),
    *("latent_diffusion_fashion", "latent_diffusion_emoji", "masked_diffusion_digits"),
)
GRAPHS = """
import torch
from gentext import recipes
for name in NAMES:
    model, data, _ = recipes.build(name, "quick")
    images = data.train[0].is_floating_point()
    rows = [t[:16] if images else t[:4, :64] for t in data.train]
    explained = torch._dynamo.explain(lambda *x: model(*x))(*rows)
    print(name, explained.graph_break_count, *explained.break_reasons)
drawn = torch.compile(recipes.nsf_moons("quick")[0].sample, backend="aot_eager")(16)
print(*drawn.shape)
"""


def test_the_loss_is_one_graph_for_the_compiler() -> None:
    """In a process of its own, where no shapes are checked at run time."""
    code = GRAPHS.replace("NAMES", repr(COMPILED))
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[:-1] == [*(f"{name} 0" for name in COMPILED), "16 2"]


def test_a_recipe_stands_in_the_file_of_its_models_folder_and_is_named_after_it(
    experiment: Experiment, request: pytest.FixtureRequest
) -> None:
    """Its words, the last of which tells the data, say which class it is, or which kind of one."""
    name, model = request.node.callspec.params["experiment"], experiment[0]
    _, folder, stem = type(model).__module__.split(".")
    recipe = RECIPES[name]
    assert recipe.__name__ == name
    assert recipe.__doc__
    assert recipe.__module__ == f"gentext.recipes.{folder}"
    said = f"{type(model).__name__} {stem} {model.arguments} {recipe.__doc__}".lower()
    assert any(word[:6] in said for word in name.split("_")[:-1])
