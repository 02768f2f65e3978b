"""A step against hand-written ones; turns, precisions, and the state between two steps."""

import copy
import json
import math
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from models_to_train import (
    CONFIG,
    QUIET,
    Denoiser,
    Duel,
    Line,
    Seldom,
    digest,
    examples,
    regression,
    seeded,
)

from gentext.training.batches import epoch_batches
from gentext.training.config import TrainConfig, learning_rate
from gentext.training.run import History, Run, keeping_random_state
from gentext.training.train import fit


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.999)])
def test_fit_is_adamw_with_clipping_and_schedule(betas):
    one, two = betas
    config = TrainConfig(
        steps=25,
        batch_size=20,
        lr=0.1,
        warmup=4,
        schedule="cosine",
        weight_decay=0.3,
        betas=betas,
        clip=0.2,
    )
    data = regression()
    model, by_hand = (seeded(Line).double() for _ in range(2))
    history = fit(model, data, config, **QUIET)

    first, second, losses = {}, {}, []
    batches = [b for epoch in range(7) for b in epoch_batches(data, 20, seed=0, epoch=epoch)]
    for step, batch in enumerate(batches[:25], start=1):
        loss = by_hand.loss(*batch)
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, list(by_hand.parameters()))
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
        rate = learning_rate(step - 1, config)
        for p, g in zip(by_hand.parameters(), gradients, strict=True):
            g = g * min(1.0, 0.2 / (norm + 1e-6))  # as PyTorch keeps from dividing by 0
            first[p] = one * first.get(p, 0) + (1 - one) * g
            second[p] = two * second.get(p, 0) + (1 - two) * g**2
            scale = (second[p] / (1 - two**step)).sqrt() + 1e-8
            p.data -= rate * (0.3 * p.data + first[p] / (1 - one**step) / scale)
    for p, q in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-8)
    assert history.loss == pytest.approx(losses, rel=1e-5)


def test_each_turn_moves_its_own_parameters_by_its_own_gradient():
    model, x = Duel(), torch.ones(10, 1, dtype=torch.float64)
    history = fit(model, (x,), TrainConfig(steps=20, lr=0.05), **QUIET)
    a, b = torch.tensor(1.0, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64)
    one, two = (torch.optim.AdamW([p], lr=0.05, weight_decay=0) for p in (a, b))
    losses = []
    for _ in range(20):
        losses.append(float(a * b + a**2))
        a.grad = b + 2 * a
        one.step()
        b.grad = -a + 2 * b
        two.step()
    torch.testing.assert_close(torch.stack([model.a, model.b]).detach(), torch.stack([a, b]))
    assert list(history.losses) == ["first", "second"]
    assert history.loss == pytest.approx(losses)


def test_a_turn_is_taken_when_it_is_due():
    model, x = Seldom(), torch.ones(8, 1, dtype=torch.float64)
    seen = []
    watch = [lambda step, model: seen.append(float(model.b.detach()))]
    history = fit(model, (x,), TrainConfig(steps=7, lr=0.05), observers=watch, **QUIET)
    assert [len(losses) for losses in history.losses.values()] == [7, 2]
    assert [a == b for a, b in zip([2.0, *seen], seen, strict=False)] == [
        True,
        True,
        False,
        True,
        True,
        False,
        True,
    ]


class Late(Duel):
    """The first turn is not due at once, and in some steps none is."""

    def due(self, turn, step):
        return step >= 4 or (turn == "second" and step == 1)


@pytest.mark.parametrize("precision", ["no", "fp16"])
def test_steps_without_a_turn_pass(precision):
    model, x = Late(), torch.ones(8, 1, dtype=torch.float64)
    config = TrainConfig(steps=6, lr=0.05, precision=precision, save_every=1)
    history = fit(model, (x,), config)
    assert [len(losses) for losses in history.losses.values()] == [2, 3]


def test_a_turn_that_is_never_due_is_refused():
    with pytest.raises(ValueError, match="second is due in none of 2 steps"):
        fit(Seldom(), (torch.ones(8, 1).double(),), TrainConfig(steps=2), **QUIET)


def test_seed_changes_the_noise():
    alike = examples()[:1].repeat(100, 1)
    losses = [
        fit(seeded(Denoiser), (alike,), TrainConfig(steps=1, seed=seed), **QUIET).loss
        for seed in (0, 1, 0)
    ]
    assert losses[0] == losses[2] != losses[1]


def test_frozen_parameters_stay():
    model = seeded(Denoiser)
    model.net[0].weight.requires_grad_(False)
    before = model.net[0].weight.clone()
    fit(model, (examples(),), CONFIG, **QUIET)
    assert torch.equal(model.net[0].weight, before)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.half)])
def test_mixed_precision_computes_in_half_and_keeps_float32(precision, dtype):
    model, seen = seeded(Denoiser), set()
    model.net[4].register_forward_hook(lambda m, i, output: seen.add(output.dtype))
    config = TrainConfig(steps=200, lr=0.02, precision=precision, clip=1.0)
    history = fit(model, (examples(),), config, **QUIET)
    assert seen == {dtype}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    exact = fit(seeded(Denoiser), (examples(),), TrainConfig(steps=200, lr=0.02, clip=1.0), **QUIET)
    assert sum(history.loss[-50:]) == pytest.approx(sum(exact.loss[-50:]), rel=0.05)


def test_compiled_training_goes_the_same_way(monkeypatch):
    compiled = []

    def compile_(model):
        compiled.append(model)
        return lambda *batch, turn: getattr(model, turn)(*batch)

    monkeypatch.setattr(torch, "compile", compile_)
    models = [seeded(Line).double() for _ in range(2)]
    for model, flag in zip(models, (False, True), strict=True):
        fit(model, regression(), TrainConfig(steps=5, compile=flag), **QUIET)
    assert compiled == [models[1]]
    assert digest(models[0]) == digest(models[1])


def test_a_model_without_parameters_to_train_is_refused():
    with pytest.raises(ValueError, match="no parameters to train"):
        fit(seeded(Denoiser).requires_grad_(False), (examples(),), CONFIG, **QUIET)


# Between two steps


def begun(seed, precision="no"):
    """A run that has not made a step, of everything that has state."""
    config = TrainConfig(steps=30, lr=0.01, warmup=5, clip=0.5, ema=0.9, precision=precision)
    return Run(seeded(Denoiser, seed), config, Accelerator(cpu=True))


def advanced(run, batches):
    for batch in batches:
        run.advance(batch)
    run.look()
    return run


def all_of(run):
    return {**run.state_dict(), **{f"model/{name}": t for name, t in run.weights().items()}}


def same(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(one[path], other[path])
        if isinstance(one[path], torch.Tensor)
        else one[path] == other[path]
        for path in one
    )


@pytest.mark.parametrize("precision", ["no", "fp16"])
def test_a_run_that_takes_over_a_state_goes_on_with_the_same_bits(precision):
    batches = [(x,) for x in examples(96).split(8)]
    run = advanced(begun(0, precision), batches[:7])
    state, weights = copy.deepcopy(run.state_dict()), copy.deepcopy(run.weights())
    expected = all_of(advanced(run, batches[7:]))

    other = advanced(begun(1, precision), batches[:2])  # other weights, moments, noise and losses
    other.model.load_state_dict(weights)
    other.load_state_dict(state)
    assert same(other.state_dict(), state)
    assert not same(state, {path: expected[path] for path in state})
    assert same(all_of(advanced(other, batches[7:])), expected)
    for one, two in zip(run.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_state_holds_tensors_and_plain_numbers_and_all_losses():
    run = begun(0, "fp16")
    for x in examples(24).split(8):
        run.advance((x,))
    state = run.state_dict()  # looks at the losses first
    assert state["losses/loss"].tolist() == run.history.loss
    assert len(run.history.loss) == 3
    plain = {path: v for path, v in state.items() if not isinstance(v, torch.Tensor)}
    assert plain == json.loads(json.dumps(plain))
    assert plain.keys() == {"step", "begun", "seconds", "scaler"}


def test_the_weights_that_training_is_for_are_the_average():
    run = advanced(begun(0), [(examples(16),)] * 5)
    last, averaged = dict(run.model.named_parameters()), run.weights()
    assert averaged.keys() == run.model.state_dict().keys()
    assert not torch.equal(last["net.0.weight"], averaged["net.0.weight"])
    averaged = copy.deepcopy(averaged)
    run.finish()
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(tensor, averaged[name]), name
    assert not run.model.training


@pytest.mark.parametrize("error", [None, KeyError])
def test_draws_inside_leave_the_generators_as_they_were(error):
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    try:
        with keeping_random_state(torch.device("cpu")):
            torch.rand(7)
            if error:
                raise error
    except KeyError:
        pass
    assert torch.equal(torch.rand(3), expected)


def test_the_loss_of_a_history_is_that_of_the_first_turn():
    assert History({"first": [1.0], "second": [2.0]}).loss == [1.0]


class Slowed(Line):
    """The bias learns at a third of the rate."""

    def rates(self):
        return {self.map.bias: 1 / 3}


def test_parameters_may_learn_at_multiples_of_the_rate(tmp_path):
    """Against AdamW by hand, with warm-up; and resumed to the bit."""
    config = TrainConfig(steps=6, lr=0.03, warmup=4, batch_size=90, weight_decay=0.1, save_every=3)
    x, y = regression()
    model, by_hand, resumed = (seeded(Slowed).double() for _ in range(3))
    fit(model, (x, y), config, **QUIET)
    optimizers = [
        torch.optim.AdamW([p], lr=0.0, weight_decay=0.1) for p in by_hand.map.parameters()
    ]
    for step in range(6):
        loss = by_hand.loss(x, y)
        for optimizer, factor in zip(optimizers, (1.0, 1 / 3), strict=True):
            optimizer.param_groups[0]["lr"] = 0.03 * min(1.0, (step + 1) / 4) * factor
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
    for ours, theirs in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    fit(resumed, (x, y), replace(config, steps=3), out=tmp_path, **QUIET)
    again = seeded(Slowed).double()
    fit(again, (x, y), config, out=tmp_path, resume=True, **QUIET)
    assert digest(again) == digest(model)


def test_a_rate_below_zero_is_refused():
    model = Line().double()
    model.rates = lambda: {model.map.bias: -1.0}
    with pytest.raises(ValueError, match="rate must be at least 0"):
        fit(model, regression(), TrainConfig(steps=1), **QUIET)
