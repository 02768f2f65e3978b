"""Orders of examples, streams, shares of several processes; data that cannot be used."""

import itertools
import math

import numpy as np
import pytest
import torch
from models_to_train import (
    CONFIG,
    QUIET,
    Denoiser,
    Line,
    digest,
    examples,
    regression,
    seeded,
    stream,
)
from torch.utils.data import TensorDataset

from gentext.training.batches import Share, endless_batches, epoch_batches, fingerprint, mix
from gentext.training.config import TrainConfig
from gentext.training.train import fit


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
        ((examples().numpy(),), r"tuple of ndarray.*torch\.from_numpy"),
        (5, "cannot train on a int"),
        ([], "no batch"),
        (TensorDataset(examples()), "cannot train on a TensorDataset; .* such as a DataLoader"),
        ([{"x": examples()}], "a batch that is a dict of Tensor; give a tensor or a tuple of ten"),
        (({"x": x} for x in [examples()]), "a batch that is a dict of Tensor"),
        ([(examples(), [1, 2])], "a batch that is a tuple of Tensor, list"),
        ([(examples().numpy(),)], "a batch that is a tuple of ndarray"),
        ([[0.5, 0.5]], "a batch that is a list of float, float"),
        ([5], "a batch that is a int; give"),
        ([examples(4), examples(0)], r"got a batch of \(0, 3\); give tensors of one length, 1 or"),
        ([(examples(4), examples(3))], r"got a batch of \(4, 3\), \(3, 3\)"),
        ([()], "got a batch of no tensors"),
        ([torch.tensor(1.0)], r"got a batch of \(\)"),
        ([examples().double()], "of the batches is float64 and the model float32"),
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


@pytest.mark.parametrize(("data", "model"), [("double", "float"), ("double", "bfloat16")])
def test_double_precision_goes_with_a_model_of_double_precision_only(data, model):
    rows = getattr(examples(), data)()
    with pytest.raises(ValueError, match=f"is float64 and the model {model}.*; give data.float"):
        fit(getattr(seeded(Denoiser), model)(), (rows,), CONFIG, **QUIET)
    fit(seeded(Denoiser).double(), (rows,), TrainConfig(steps=1), **QUIET)


# Batch after batch


CPU = torch.device("cpu")


def first(count, source, **how):
    return [b[0] for b in itertools.islice(endless_batches(source, 16, CPU, **how), count)]


@pytest.mark.parametrize("data", [(examples(50),), stream()], ids=["memory", "stream"])
@pytest.mark.parametrize("start", [1, 3, 7])
def test_batches_from_a_step_on_are_those_of_the_whole(data, start):
    whole, rest = first(10, data, seed=2), first(10 - start, data, seed=2, start=start)
    for one, two in zip(whole[start:], rest, strict=True):
        assert torch.equal(one, two)


def test_processes_that_cannot_share_a_batch_are_told():
    three = {"share": Share(0, 3)}
    with pytest.raises(ValueError, match="batch_size=16 cannot be shared by 3 processes"):
        first(1, (examples(),), **three)
    with pytest.raises(ValueError, match="got 2 examples for 4 processes"):
        first(1, (examples(2),), share=Share(0, 4))


def test_streams_are_dealt_out_to_processes_in_turn():
    batches = list(examples(60).split(10))
    one, two = (first(3, batches, share=Share(rank, 2)) for rank in range(2))
    for i in range(3):
        assert torch.equal(one[i], batches[2 * i])
        assert torch.equal(two[i], batches[2 * i + 1])


def test_a_fingerprint_tells_data_apart():
    x = examples(5000)
    changed = x.clone()
    changed[0, 0] += 1
    prints = [fingerprint((t,)) for t in (x, changed, x.double(), x[:-1], x.reshape(-1, 1))]
    prints.append(fingerprint(stream()))
    assert all(a != b for a, b in itertools.combinations(prints, 2))
    assert fingerprint((x.clone(),)) == prints[0]


def test_seeds_are_mixed_from_all_parts():
    seeds = [mix("order", seed, epoch) for seed in range(9) for epoch in range(9)]
    seeds += [mix("noise", seed, epoch) for seed in range(9) for epoch in range(9)]
    assert len(set(seeds)) == len(seeds)
    assert mix("order", 1, 2) == mix("order", 1, 2)
    assert all(0 <= seed < 2**56 for seed in seeds)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("gray28", r"the text 'gray28' as data; load it: gentext\.data\.load"),
        (np.zeros((4, 2)), "NumPy array as data; give a tensor"),
        ({"x": torch.zeros(4, 2)}, "type dict that is no tuple of tensors"),
    ],
)
def test_what_is_no_training_data_is_refused_by_name(data, message):
    with pytest.raises(ValueError, match=message):
        fit(Denoiser(), data, CONFIG, **QUIET)


def test_single_precision_does_not_train_a_model_of_double():
    with pytest.raises(ValueError, match=r"float32 and the model float64; give data\.double\(\)"):
        fit(Denoiser().double(), examples().float(), CONFIG, **QUIET)


def test_what_was_computed_in_inference_mode_can_be_trained_on():
    x, y = regression()
    with torch.inference_mode():
        batches = [(x[part].clone(), y[part].clone()) for part in (slice(45), slice(45, 90))]
    models = [seeded(Line).double() for _ in range(2)]
    for model, data in zip(models, (batches, [(x[:45], y[:45]), (x[45:], y[45:])]), strict=True):
        fit(model, data, TrainConfig(steps=2), **QUIET)
    assert digest(models[0]) == digest(models[1])
