"""Training beside what others have set up in the same process, and on which device."""

import asyncio
import threading

import accelerate
import pytest
import torch
from models_to_train import CONFIG, QUIET, Denoiser, digest, examples, seeded

from gentext import metrics
from gentext.data import Dataset
from gentext.training import processes
from gentext.training.processes import Alone, device_for, gathered, spread, surroundings
from gentext.training.run import Run
from gentext.training.train import fit


def trained(data=None, model=None):
    model = seeded(Denoiser) if model is None else model
    history = fit(model, (examples(),) if data is None else data, CONFIG, **QUIET)
    return digest(model, history)


@pytest.fixture(scope="module")
def expected():
    return trained()


@pytest.fixture
def accelerate_anew():
    """As if accelerate had not been used in this process."""
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    yield
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_an_accelerator_may_be_made_before_and_after(accelerate_anew, expected, precision):
    before = accelerate.Accelerator(cpu=True, mixed_precision=precision)
    assert trained() == expected
    assert before.mixed_precision == precision
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    assert trained() == expected
    assert not accelerate.state.is_initialized()
    accelerate.Accelerator(cpu=True, mixed_precision=precision)


def test_a_model_that_accelerate_prepared_is_trained(accelerate_anew, expected):
    prepared = accelerate.Accelerator(cpu=True).prepare(seeded(Denoiser))
    assert trained(model=prepared) == expected


def default_dtype():
    torch.set_default_dtype(torch.float64)
    return lambda: torch.set_default_dtype(torch.float32)


def default_device():
    torch.set_default_device("meta")
    return lambda: torch.set_default_device(None)


def deterministic():
    torch.use_deterministic_algorithms(True)
    return lambda: torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("set_", [default_dtype, default_device, deterministic])
def test_what_others_set_for_all_does_not_matter(expected, set_, tmp_path):
    one, two, three, four = (seeded(Denoiser, seed) for seed in (0, 5, 0, 0))
    rows, batches = (examples(),), list(examples(32).split(16))
    of_batches = digest(three, fit(three, batches, CONFIG, **QUIET))
    undo = set_()
    try:
        first = fit(one, rows, CONFIG, out=tmp_path, **QUIET)
        resumed = fit(two, rows, CONFIG, out=tmp_path, resume=True, **QUIET)
        streamed = fit(four, batches, CONFIG, **QUIET)
    finally:
        undo()
    assert digest(one, first) == digest(two, resumed) == expected
    assert digest(four, streamed) == of_batches


def test_a_running_event_loop_and_other_threads_do_not_matter(expected):
    async def notebook():
        return trained()

    assert asyncio.run(notebook()) == expected
    results = []
    thread = threading.Thread(target=lambda: results.append(trained()))
    thread.start()
    thread.join()
    assert results == [expected]


@pytest.mark.parametrize("without", [torch.no_grad, torch.inference_mode])
def test_training_without_gradients_is_refused(without):
    model = seeded(Denoiser)
    before = digest(model)
    with without(), pytest.raises(ValueError, match=r"call fit outside torch\.no_grad"):
        fit(model, (examples(),), CONFIG, **QUIET)
    assert digest(model) == before
    with torch.inference_mode():
        model = Denoiser()
    with pytest.raises(ValueError, match=r"built in torch\.inference_mode"):
        fit(model, (examples(),), CONFIG, **QUIET)


# Wrapped models


@torch.compiler.set_stance("force_eager")  # the checks of shapes at run time cannot be compiled
@pytest.mark.parametrize(
    "wrap", [torch.nn.DataParallel, lambda m: torch.compile(m, backend="eager")]
)
def test_what_is_inside_a_wrapper_is_trained_and_saved(expected, tmp_path, wrap):
    model = seeded(Denoiser)
    history = fit(wrap(model), (examples(),), CONFIG, out=tmp_path, **QUIET)
    assert digest(model, history) == expected
    other = seeded(Denoiser, 4)
    again = fit(wrap(other), (examples(),), CONFIG, out=tmp_path, resume=True, **QUIET)
    assert digest(other, again) == expected
    assert not model.training


def test_the_compiled_loss_of_a_compiled_model_is_used():
    model, alone = seeded(Denoiser), Alone(torch.device("cpu"))
    compiled = torch.compile(model, backend="eager")
    assert Run(model, CONFIG, alone, given=compiled).wrapped is compiled
    for given in (None, model, torch.nn.DataParallel(compiled)):
        assert Run(model, CONFIG, alone, given=given).wrapped is model


def test_what_is_inside_a_wrapper_is_measured():
    data = Dataset(name="own", train=(examples(),), test=(examples(),), shape=(3,))
    model = seeded(Denoiser).eval()
    wrapped = torch.nn.DataParallel(model)
    assert metrics.evaluate(wrapped, data) == metrics.evaluate(model, data)
    with pytest.raises(ValueError, match=r"got Linear, which is no gentext\.Model"):
        metrics.evaluate(torch.nn.Linear(1, 1), data)


def test_no_other_model_is_trained():
    for other in (torch.nn.Linear(3, 1), torch.optim.swa_utils.AveragedModel(seeded(Denoiser))):
        with pytest.raises(ValueError, match=r"got (Linear|AveragedModel)"):
            fit(other, (examples(),), CONFIG, **QUIET)


# Devices


def test_one_process_is_alone_on_the_best_device(monkeypatch):
    model = seeded(Denoiser)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert device_for(model) == torch.device("cuda", 1)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert surroundings(model) == Alone(torch.device("cpu"))
    monkeypatch.undo()
    with pytest.raises(ValueError, match="no weights yet"):
        device_for(Denoiser().to("meta"))


def test_processes_that_cannot_train_together_are_told(accelerate_anew, monkeypatch):
    monkeypatch.setattr(processes, "_connected", lambda: 2)
    with pytest.raises(ValueError, match="2 processes were launched, of which accelerate knows 1"):
        surroundings(seeded(Denoiser))
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(ValueError, match="divides models by FSDP only"):
        surroundings(seeded(Denoiser))


def test_alone_nothing_is_spread_or_gathered():
    alone, model, row = Alone(torch.device("cpu")), seeded(Denoiser), torch.arange(3)
    assert spread(model, alone) is model
    assert gathered(row, alone).equal(row[None])
