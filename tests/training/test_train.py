"""Training against hand-written loops and closed forms; interruption, resumption, two processes.

Run as a script, this file is the program that the tests of crashes and of several processes start.
"""

import hashlib
import importlib
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gentext import checkpoint, train
from gentext.core import Model
from gentext.training.batches import Share, epoch_batches
from gentext.training.config import TrainConfig, learning_rate
from gentext.training.saver import NAME
from gentext.training.train import fit


class Denoiser(Model):
    """Small, but with everything that has state: noise, dropout, normalisation, an average."""

    def __init__(self, *, width: int = 8, noise: float = 0.1) -> None:
        super().__init__()
        self.noise = noise
        self.net = nn.Sequential(
            nn.Linear(3, width),
            nn.BatchNorm1d(width, momentum=0.3),
            nn.Tanh(),
            nn.Dropout(0.2),
            nn.Linear(width, 3),
        )

    def loss(self, x):
        return (self.net(x + self.noise * torch.randn_like(x)) - x).square().mean()


class Line(Model):
    """Linear regression, without noise: what training does to it can be computed by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(3, 1)

    def loss(self, x, y):
        return (self.map(x)[:, 0] - y).square().mean()


class Duel(Model):
    """Two turns; the loss of the second also gives the parameter of the first a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in (1.0, 2.0))

    def turns(self):
        return {"first": [self.a], "second": [self.b]}

    def first(self, x):
        return (self.a * self.b.detach() * x).mean() + self.a**2

    def second(self, x):
        return -(self.a * self.b * x).mean() + self.b**2


CONFIG = TrainConfig(
    steps=40,
    batch_size=16,
    lr=0.01,
    warmup=5,
    schedule="cosine",
    weight_decay=0.1,
    clip=0.5,
    ema=0.9,
    seed=3,
    save_every=4,
)
QUIET = {"progress": False}


def seeded(make, seed=0):
    torch.manual_seed(seed)
    return make()


def examples(n=100, dtype=torch.float32):
    return torch.rand(n, 3, generator=torch.Generator().manual_seed(1), dtype=dtype)


def regression(n=90):
    x = examples(n, torch.float64)
    return x, x @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) + 0.3


def digest(model, history=None):
    """All bits of the weights, buffers and losses."""
    content = b"".join(t.numpy().tobytes() for t in model.state_dict().values())
    return hashlib.sha256(content + repr(history and history.losses).encode()).hexdigest()


# What a step is


def test_schedule_is_linear_then_half_a_cosine():
    config = TrainConfig(steps=110, lr=2.0, warmup=10, schedule="cosine")
    assert [learning_rate(s, config) for s in range(10)] == pytest.approx(
        [0.2 * (s + 1) for s in range(10)]
    )
    for step in (10, 35, 60, 85, 110):
        angle = math.pi * (step - 10) / 100
        assert learning_rate(step, config) == pytest.approx(2 * math.cos(angle / 2) ** 2)
    constant = TrainConfig(steps=110, lr=2.0, warmup=10)
    assert {learning_rate(s, constant) for s in range(10, 110)} == {2.0}


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


def test_ema_is_the_weighted_sum_of_the_weights_on_the_way():
    way = []
    config = TrainConfig(steps=30, lr=0.1, ema=0.9)
    model = seeded(Line).double()
    way.append(model.map.weight.detach().clone())
    fit(
        model,
        regression(),
        config,
        observers=[lambda step, m: way.append(m.map.weight.detach().clone())],
        **QUIET,
    )
    decays = [min(0.9, (1 + t) / (10 + t)) for t in range(1, 31)]
    coefficients = [math.prod(decays)] + [
        (1 - decays[t]) * math.prod(decays[t + 1 :]) for t in range(30)
    ]
    assert sum(coefficients) == pytest.approx(1)
    expected = sum(c * w for c, w in zip(coefficients, way, strict=True))
    torch.testing.assert_close(model.map.weight.detach(), expected)


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


class Seldom(Duel):
    """The second turn is due in every third step, and only its parameter is averaged."""

    def due(self, turn, step):
        return turn == "first" or step % 3 == 2

    def averaged(self):
        return [self.b]


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
        fit(Seldom(), (torch.ones(8, 1),), TrainConfig(steps=2), **QUIET)


def test_only_what_a_model_says_is_averaged():
    x = torch.ones(8, 1, dtype=torch.float64)
    last, mean = Seldom(), Seldom()
    fit(last, (x,), TrainConfig(steps=9, lr=0.05), **QUIET)
    fit(mean, (x,), TrainConfig(steps=9, lr=0.05, ema=0.9), **QUIET)
    assert float(mean.a.detach()) == float(last.a.detach())
    assert float(mean.b.detach()) != float(last.b.detach())


def test_an_epoch_visits_every_example_once_in_an_order_of_its_own():
    index = torch.arange(96)
    epochs = [torch.cat([b for (b,) in epoch_batches((index,), 16, epoch=e)]) for e in range(3)]
    for order in epochs:
        assert torch.equal(order.sort().values, index)
    assert not torch.equal(epochs[0], epochs[1])
    again = list(epoch_batches((index,), 16, epoch=1, start=2))
    assert torch.equal(torch.cat([b for (b,) in again]), epochs[1][32:])
    other = next(iter(epoch_batches((index,), 16, seed=1)))[0]
    assert not torch.equal(other, epochs[0][:16])


def test_processes_share_each_batch_of_the_same_order():
    index = torch.arange(100)
    whole = [b for (b,) in epoch_batches((index,), 12, epoch=2)]
    shares = [
        [b for (b,) in epoch_batches((index,), 12, epoch=2, share=Share(r, 3))] for r in range(3)
    ]
    assert len(whole) == 8
    for step, batch in enumerate(whole):
        assert torch.equal(torch.cat([share[step] for share in shares]), batch)


def test_a_batch_larger_than_the_data_is_all_of_it():
    (batch,) = (b for (b,) in epoch_batches((torch.arange(5),), 128))
    assert sorted(batch.tolist()) == [0, 1, 2, 3, 4]


# What surrounds it


def test_observers_see_every_step_and_disturb_nothing():
    seen = []

    def observe(step, model):
        seen.append(step)
        model.eval()
        torch.rand(7)

    models = [seeded(Denoiser) for _ in range(2)]
    histories = [
        fit(m, (examples(),), CONFIG, observers=o, **QUIET)
        for m, o in zip(models, ([], [observe]), strict=True)
    ]
    assert digest(models[0], histories[0]) == digest(models[1], histories[1])
    assert seen == list(range(1, 41))


def test_the_callers_generator_is_left_alone_and_does_not_matter():
    results = []
    for outside in (1, 2):
        model = seeded(Denoiser)
        torch.manual_seed(outside)
        expected = torch.rand(3)
        torch.manual_seed(outside)
        fit(model, (examples(),), CONFIG, **QUIET)
        assert torch.equal(torch.rand(3), expected)
        assert not model.training
        results.append(digest(model))
    assert results[0] == results[1]


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


def test_losses_are_looked_at_only_now_and_then(monkeypatch):
    """Each look makes a GPU wait, so there must not be one a step."""
    looks = []
    look = train.Run.look
    monkeypatch.setattr(train, "GLANCE", math.inf)
    monkeypatch.setattr(train.Run, "look", lambda run: looks.append(run.step) or look(run))
    history = fit(seeded(Denoiser), (examples(),), CONFIG, **QUIET)
    assert looks == list(range(4, 41, 4))
    assert len(history.loss) == 40


def test_progress_shows_loss_and_rate(capsys):
    fit(seeded(Denoiser), (examples(),), TrainConfig(steps=5))
    shown = capsys.readouterr().err
    assert "5/5" in shown
    assert "loss 0." in shown
    assert "items/s" in shown
    fit(seeded(Denoiser), (examples(),), TrainConfig(steps=5), progress=False)
    assert capsys.readouterr().err == ""


# Streams


def stream(seed=0):
    """Batches whose order is drawn anew every epoch."""
    return DataLoader(TensorDataset(examples(40)), batch_size=16, shuffle=True)


def test_a_stream_is_read_again_every_epoch_in_another_order():
    seen = []

    class Recorder(Denoiser):
        def loss(self, x):
            seen.append(x[:, 0].clone())
            return super().loss(x)

    for _ in range(2):
        fit(seeded(Recorder), stream(), TrainConfig(steps=6), **QUIET)
    first, second, again = (torch.cat(seen[i : i + 3]) for i in (0, 3, 6))
    assert torch.equal(first.sort().values, second.sort().values)
    assert not torch.equal(first, second)
    assert torch.equal(first, again)


def test_a_list_of_tensors_is_a_stream_of_batches():
    batches = list(examples(30).split(10))
    fit(model := seeded(Denoiser), batches, TrainConfig(steps=3), **QUIET)
    same = seeded(Denoiser)
    fit(same, [(b,) for b in batches], TrainConfig(steps=3), **QUIET)
    assert digest(model) == digest(same)


def test_what_a_stream_draws_does_not_disturb_the_noise_of_the_training():
    class Greedy(list):
        def __iter__(self):
            for batch in super().__iter__():
                torch.rand(5)
                yield batch

    batches, models = list(examples(30).split(10)), [seeded(Denoiser) for _ in range(2)]
    for model, data in zip(models, (batches, Greedy(batches)), strict=True):
        fit(model, data, TrainConfig(steps=7), **QUIET)
    assert digest(models[0]) == digest(models[1])


def test_an_iterator_that_ran_out_is_an_error():
    with pytest.raises(ValueError, match=r"no batch in epoch 1.*read again"):
        fit(seeded(Denoiser), iter([(examples(),)] * 2), TrainConfig(steps=3), **QUIET)


# Bad input


NAN = examples().index_fill(0, torch.tensor([7]), math.nan)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((), "nothing"),
        ((torch.zeros(0, 3),), "no examples"),
        ((examples(10), examples(9)), r"lengths \[10, 9\]"),
        ((NAN,), "NaN or infinite"),
        ((NAN.nan_to_num(nan=-math.inf),), "NaN or infinite"),
        ((examples(), "labels"), "Tensor, str"),
        ((torch.tensor(1.0),), r"shape \(n, \.\.\.\)"),
        (5, "cannot train on a int"),
        ([], "no batch"),
    ],
)
def test_unusable_data_is_refused(data, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        fit(seeded(Denoiser), data, CONFIG, out=tmp_path / "run", **QUIET)
    assert not list(tmp_path.rglob("*.partial"))


def test_the_model_is_asked_whether_the_data_fit():
    class Picky(Denoiser):
        def check(self, x):
            raise ValueError("not these")

    with pytest.raises(ValueError, match="not these"):
        fit(seeded(Picky), (examples(),), CONFIG, **QUIET)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("save_every", 0),
        ("lr", 0.0),
        ("lr", math.nan),
        ("lr", math.inf),
        ("warmup", -1),
        ("weight_decay", -0.1),
        ("clip", 0.0),
        ("ema", 1.0),
        ("betas", (0.9, 1.0)),
        ("betas", (-0.1, 0.9)),
        ("betas", (0.9,)),
        ("betas", (0.5, 0.9, 0.99)),
        ("schedule", "linear"),
        ("precision", "fp8"),
    ],
)
def test_a_setting_out_of_range_is_refused(field, value):
    with pytest.raises(
        ValueError, match=rf"got {field}={re.escape(repr(value))}; {field} must be"
    ) as error:
        TrainConfig(**{"steps": 10, field: value})
    if isinstance(value, str):
        assert "'no'" in str(error.value) or "'cosine'" in str(error.value)


def test_a_model_without_parameters_to_train_is_refused():
    with pytest.raises(ValueError, match="no parameters to train"):
        fit(seeded(Denoiser).requires_grad_(False), (examples(),), CONFIG, **QUIET)


class Fragile(Denoiser):
    """Breaks at a step, by its loss or by its gradient."""

    def __init__(self, *, at: int, how: str) -> None:
        super().__init__()
        self.at, self.how, self.calls = at, how, 0

    def loss(self, x):
        self.calls += 1
        if self.calls != self.at:
            return super().loss(x)
        if self.how == "loss":
            return super().loss(x) * math.nan
        return super().loss(x) + (self.net[0].weight.sum() - self.net[0].weight.sum()).sqrt()


@pytest.mark.parametrize("how", ["loss", "gradient"])
@pytest.mark.parametrize("at", [9, 12])
def test_nan_stops_the_training_and_keeps_the_last_good_checkpoint(tmp_path, at, how):
    with pytest.raises(FloatingPointError, match=r"by step \d+; .* still holds step 8; try lr="):
        fit(seeded(lambda: Fragile(at=at, how=how)), (examples(),), CONFIG, out=tmp_path, **QUIET)
    assert checkpoint.info(tmp_path / NAME)["step"] == 8
    kept = checkpoint.load(tmp_path / NAME, model=Fragile(at=at, how=how))
    good = seeded(Denoiser)
    with pytest.raises(KeyboardInterrupt):
        fit(good, (examples(),), CONFIG, observers=[interrupt_at(9)], out=tmp_path / "g", **QUIET)
    checkpoint.load(tmp_path / "g" / NAME, model=good)
    assert digest(kept) == digest(good)


def test_nan_stops_a_training_without_a_checkpoint_too():
    with pytest.raises(FloatingPointError, match=r"loss became NaN .* by step 7; try lr="):
        fit(seeded(lambda: Fragile(at=7, how="loss")), (examples(),), TrainConfig(steps=7), **QUIET)


# Interruption


def interrupt_at(step):
    def observer(now, model):
        if now == step:
            raise KeyboardInterrupt

    return observer


def interrupted(step, folder, data=None, config=CONFIG, make=Denoiser):
    """A training saved every 4 steps and stopped in the middle of ``step``."""
    data = (examples(),) if data is None else data
    with pytest.raises(KeyboardInterrupt):
        fit(seeded(make), data, config, out=folder, observers=[interrupt_at(step)], **QUIET)


@pytest.mark.parametrize("data", [(examples(),), stream()], ids=["memory", "stream"])
def test_a_resumed_training_is_the_uninterrupted_one(tmp_path, data):
    interrupted(23, tmp_path, data)
    model, whole = seeded(Denoiser, 9), seeded(Denoiser)
    history = fit(model, data, CONFIG, out=tmp_path, resume=True, **QUIET)
    expected = fit(whole, data, CONFIG, **QUIET)
    assert digest(model, history) == digest(whole, expected)
    loaded = checkpoint.load(tmp_path / NAME, model=Denoiser())
    assert digest(loaded) == digest(whole)


def test_resuming_a_finished_training_gives_its_result(tmp_path):
    models = [seeded(Denoiser, seed) for seed in (0, 1)]
    histories = [fit(m, (examples(),), CONFIG, out=tmp_path, resume=True, **QUIET) for m in models]
    assert digest(models[0], histories[0]) == digest(models[1], histories[1])


def test_every_state_is_saved_once(tmp_path, monkeypatch):
    steps, write = [], checkpoint.write

    def record(path, tensors, header):
        steps.append(header["step"])
        return write(path, tensors, header)

    monkeypatch.setattr(checkpoint, "write", record)
    fit(seeded(Denoiser), (examples(),), CONFIG, out=tmp_path, **QUIET)
    assert steps == list(range(0, 41, 4))


@pytest.mark.parametrize("precision", ["no", "fp16"])
def test_a_constant_schedule_may_be_prolonged(tmp_path, precision):
    def config(steps, save_every):
        return TrainConfig(steps=steps, save_every=save_every, batch_size=16, precision=precision)

    class Steep(Denoiser):
        """In half precision its first gradients overflow, until the scale has been lowered."""

        def loss(self, x):
            return 256 * super().loss(x)

    results = []
    for folder, stages in (("a", [12, 30]), ("b", [30])):
        for steps in stages:
            model = seeded(Steep)
            history = fit(
                model,
                (examples(),),
                config(steps, steps // 2),
                out=tmp_path / folder,
                resume=True,
                **QUIET,
            )
        results.append(digest(model, history))
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"lr": 0.02}}, "lr was 0.01 and is now 0.02"),
        ({"config": {"steps": 80}}, "steps was 40 and is now 80"),
        ({"config": {"ema": None}}, "ema was 0.9 and is now None"),
        ({"data": (examples(101),)}, "data was .*100, 3.* and is now .*101, 3"),
        ({"data": (examples() + 1,)}, "data was"),
        ({"data": stream()}, "data was .* is now .*stream"),
        ({"make": lambda: Denoiser(width=9)}, "width=8, not width=9"),
        ({"make": lambda: Denoiser(noise=0.2)}, "noise=0.1, not noise=0.2"),
        ({"make": lambda: Fragile(at=1, how="loss")}, "holds a Denoiser, not a Fragile"),
    ],
)
def test_resuming_something_else_is_refused(tmp_path, change, message):
    interrupted(10, tmp_path, make=lambda: Denoiser(width=8, noise=0.1))
    before = (tmp_path / NAME).read_bytes()
    settings = {**vars(CONFIG), **change.get("config", {})}
    make, data = change.get("make", Denoiser), change.get("data", (examples(),))
    with pytest.raises(ValueError, match=message):
        fit(seeded(make), data, TrainConfig(**settings), out=tmp_path, resume=True, **QUIET)
    assert (tmp_path / NAME).read_bytes() == before


def test_a_checkpoint_that_lacks_a_setting_is_refused(tmp_path):
    interrupted(10, tmp_path)
    header, tensors = checkpoint.read(tmp_path / NAME)
    del header["training"]["config"]["betas"]
    checkpoint.write(tmp_path / NAME, tensors, header)
    with pytest.raises(ValueError, match=r"betas was None and is now \[0.9, 0.999\]"):
        fit(seeded(Denoiser), (examples(),), CONFIG, out=tmp_path, resume=True, **QUIET)


def test_steps_cannot_be_lowered_below_what_was_done(tmp_path):
    long, short = (TrainConfig(steps=steps) for steps in (20, 10))
    fit(seeded(Denoiser), (examples(),), long, out=tmp_path, **QUIET)
    with pytest.raises(ValueError, match="at step 20, beyond steps=10"):
        fit(seeded(Denoiser), (examples(),), short, out=tmp_path, resume=True, **QUIET)


def test_an_earlier_training_is_not_overwritten(tmp_path):
    interrupted(10, tmp_path)
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(ValueError, match="already holds a checkpoint; resume it"):
        fit(seeded(Denoiser), (examples(),), CONFIG, out=tmp_path, **QUIET)
    assert (tmp_path / NAME).read_bytes() == before


def test_weights_alone_cannot_be_resumed(tmp_path):
    checkpoint.save(tmp_path / NAME, Denoiser())
    with pytest.raises(ValueError, match="weights only"):
        fit(seeded(Denoiser), (examples(),), CONFIG, out=tmp_path, resume=True, **QUIET)


def run_script(task, folder, *launcher):
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    if torch.cuda.is_available():
        env["ACCELERATE_USE_CPU"] = "true"
    command = [*(launcher or [sys.executable]), __file__, task, str(folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_killed_at_any_moment_and_resumed_it_ends_with_the_same_bits(tmp_path):
    whole, *deaths, resumed = run_script("crash", tmp_path)
    assert deaths == ["killed"] * 9
    assert resumed == whole
    assert os.listdir(tmp_path) == [NAME]


def test_two_processes_agree_with_each_other_and_with_one(tmp_path):
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    launcher += ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    launcher += ["--dynamo_backend", "no", "--main_process_port", "0"]
    one, two = (json.loads(line) for line in run_script("processes", tmp_path, *launcher))
    for name in ("denoiser", "resumed", "duel"):
        assert one[name] == two[name], name
    assert one["resumed"] == one["denoiser"]
    assert one["shares"] != two["shares"]
    assert one["noise"] != two["noise"]
    alone = seeded(Line).double()
    fit(alone, regression(), LINE_CONFIG, **QUIET)
    assert one["line"] == two["line"]
    assert one["line"] == pytest.approx(alone.map.weight[0].tolist(), rel=1e-9)


LINE_CONFIG = TrainConfig(steps=15, batch_size=20, lr=0.1)


def processes(folder):
    """In each of several processes: train, and print what came out as one line."""
    report = {}
    fit(model := seeded(Denoiser), (examples(),), CONFIG, **QUIET)
    report["denoiser"] = digest(model)
    alike = examples()[:1].repeat(100, 1)
    report["noise"] = fit(seeded(Denoiser), (alike,), TrainConfig(steps=1), **QUIET).loss
    interrupted(23, folder)
    model = seeded(Denoiser, 9)
    fit(model, (examples(),), CONFIG, out=folder, resume=True, **QUIET)
    report["resumed"] = digest(model)
    fit(duel := Duel(), (examples(dtype=torch.float64),), TrainConfig(steps=9, lr=0.1), **QUIET)
    report["duel"] = digest(duel)
    line = seeded(Line).double()
    report["shares"] = fit(line, regression(), LINE_CONFIG, **QUIET).loss
    report["line"] = line.map.weight[0].tolist()
    os.write(1, f"{json.dumps(report)}\n".encode())  # at once, or two lines become one
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def crash(folder):
    """Train in children that die at different moments, each going on from what the last left."""
    for slow in ("accelerate", "tqdm.auto", "torch._dynamo"):  # once, and not in every child
        importlib.import_module(slow)
    print(in_child(lambda: print_digest(None)), end="")
    chance = random.Random(0)
    deaths = [die_at_step(chance.randint(1, 6)) for _ in range(5)]
    deaths += [die_in(os, "fsync", half=True), die_in(os, "replace", early=True)]
    deaths += [die_in(os, "replace", early=False), die_in(os, "fsync", half=True, nth=2)]
    chance.shuffle(deaths)
    for death in deaths:
        in_child(lambda death=death: print_digest(folder, death()))
        print("killed")
    print(in_child(lambda: print_digest(folder)), end="")


def in_child(work):
    """What ``work`` prints in a child process; nothing if the child killed itself."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 1)
        work()
        sys.stdout.flush()
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        output = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == (0 if output else -signal.SIGKILL), status
    return output


def print_digest(folder, observers=()):
    model = seeded(Denoiser)
    history = fit(
        model, (examples(),), CONFIG, out=folder, resume=True, observers=observers, **QUIET
    )
    print(digest(model, history))


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_step(k):
    """Die after ``k`` steps."""

    def arm():
        steps = []
        return [lambda step, model: (steps.append(step), len(steps) == k and die())]

    return arm


def die_in(module, name, *, early=True, half=False, nth=1):
    """Die in the ``nth`` call of a function: before or after it, or with half the file written."""

    def arm():
        original, calls = getattr(module, name), []

        def fatal(*args):
            calls.append(args)
            if len(calls) < nth:
                return original(*args)
            if half:
                os.ftruncate(args[0], os.fstat(args[0]).st_size // 2)
            if not early:
                original(*args)
            return die()

        setattr(module, name, fatal)
        return ()

    return arm


if __name__ == "__main__":
    {"crash": crash, "processes": processes}[sys.argv[1]](Path(sys.argv[2]))
