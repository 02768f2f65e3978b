"""Recurrent cells against PyTorch's, backpropagation through time against autograd."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from gentext.sequences.recurrent import (
    RecurrentLM,
    bptt,
    gru_cell,
    jacobian_bounds,
    jacobian_norms,
    lstm_cell,
    rnn_cell,
)

pytestmark = pytest.mark.usefixtures("float64")
CELLS = ("rnn", "gru", "lstm")


def weights_of(module: nn.Module) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return module.weight_ih, module.weight_hh, module.bias_ih, module.bias_hh


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


# --- cells ---------------------------------------------------------------------------------------


def test_the_simple_cell_is_pytorchs() -> None:
    module, x, h = nn.RNNCell(3, 5), torch.randn(4, 3), torch.randn(4, 5)
    close(rnn_cell(x, h, weights_of(module)), module(x, h))


@pytest.mark.equation("eq-ar-gru")
def test_the_gated_unit_is_pytorchs() -> None:
    module, x, h = nn.GRUCell(3, 5), torch.randn(4, 3), torch.randn(4, 5)
    close(gru_cell(x, h, weights_of(module)), module(x, h))


def test_the_memory_cell_is_pytorchs() -> None:
    module, x = nn.LSTMCell(3, 5), torch.randn(4, 3)
    state = (torch.randn(4, 5), torch.randn(4, 5))
    for ours, theirs in zip(lstm_cell(x, state, weights_of(module)), module(x, state), strict=True):
        close(ours, theirs)


def test_with_the_update_gate_open_the_gated_unit_copies_its_state() -> None:
    module = nn.GRUCell(3, 5)
    with torch.no_grad():
        module.bias_hh[5:10] = 50.0
    x, h = torch.randn(3), torch.randn(5)
    jacobian = torch.func.jacrev(gru_cell, argnums=1)(x, h, weights_of(module))
    close(jacobian.detach(), torch.eye(5))


# --- gradients through time ----------------------------------------------------------------------


@pytest.mark.equation("eq-ar-bptt")
def test_backpropagation_by_hand_is_autograd() -> None:
    d, steps = 4, 6
    w, x = torch.randn(d, d, requires_grad=True), torch.randn(steps, d)
    targets, h = torch.randn(steps, d), [torch.randn(d)]
    before = []
    for x_t in x:
        before.append(x_t + w @ h[-1])
        h.append(torch.tanh(before[-1]))
    states = torch.stack(h)
    loss = ((states[1:] - targets) ** 2).sum()
    expected = torch.autograd.grad(loss, [w, *before])
    deltas, gradient = bptt(states.detach(), 2 * (states[1:] - targets).detach(), w.detach())
    torch.testing.assert_close(gradient, expected[0], rtol=0, atol=1e-11)
    torch.testing.assert_close(deltas, torch.stack(expected[1:]), rtol=0, atol=1e-11)


@pytest.mark.equation("eq-ar-vanish")
@pytest.mark.parametrize("scale", [0.8, 1.0, 1.5])
def test_the_jacobian_is_within_the_product_of_the_bounds(scale: float) -> None:
    d, steps = 6, 30
    w = torch.randn(d, d)
    w *= scale / torch.linalg.matrix_norm(w, ord=2)
    x, h0 = 0.1 * torch.randn(steps, d), torch.randn(d)
    norms = jacobian_norms(lambda x_t, h: torch.tanh(x_t + w @ h), x, h0)

    def last(h: Tensor) -> Tensor:
        for x_t in x:
            h = torch.tanh(x_t + w @ h)
        return h

    exact = torch.linalg.matrix_norm(torch.func.jacrev(last)(h0), ord=2)
    torch.testing.assert_close(norms[-1], exact)
    h, states = h0, []
    for x_t in x:
        h = torch.tanh(x_t + w @ h)
        states.append(h)
    bounds = jacobian_bounds(torch.stack(states), w)
    assert (norms <= bounds * (1 + 1e-12)).all()
    slopes = [float((1 - s**2).max()) for s in states]
    assert math.isclose(float(bounds[-1]), math.prod(slopes) * scale**steps, rel_tol=1e-9)
    assert math.isclose(float(bounds[0]), slopes[-1] * scale, rel_tol=1e-9)


def test_the_bound_is_attained_where_it_can_be() -> None:
    """A diagonal W and states at 0: every step multiplies by exactly σ₁."""
    w = torch.diag(torch.tensor([0.9, 0.5]))
    norms = jacobian_norms(lambda x, h: torch.tanh(x + w @ h), torch.zeros(10, 2), torch.zeros(2))
    close(norms, 0.9 ** torch.arange(1.0, 11))
    close(norms, jacobian_bounds(torch.zeros(10, 2), w))


# --- the language model --------------------------------------------------------------------------


def tiny(cell: str, **arguments) -> RecurrentLM:
    arguments = {"vocab_size": 3, "hidden": 5, "bos": 0, "layers": 2, **arguments}
    return RecurrentLM(cell=cell, **arguments).double().eval()


def strings(v: int, length: int) -> Tensor:
    return torch.tensor(list(itertools.product(range(v), repeat=length)))


@pytest.mark.equation("eq-ar-chain")
@pytest.mark.parametrize("row", [None, 1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_all_strings_sum_to_one(cell: str, row: int | None) -> None:
    total = tiny(cell, row=row).log_prob(strings(3, 4)).exp().sum()
    torch.testing.assert_close(total.detach(), torch.tensor(1.0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("row", [None, 1, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_no_logit_sees_a_later_token(cell: str, row: int | None) -> None:
    model, x = tiny(cell, row=row), torch.randint(3, (1, 8))
    for t in range(8):
        changed = x.clone()
        changed[0, t] = (x[0, t] + 1) % 3
        difference = (model.logits(changed) - model.logits(x)).abs().sum(-1)[0]
        assert (difference[:t] == 0).all()
        assert difference[t] > 0


@pytest.mark.parametrize("row", [2, 4])
def test_the_pixel_above_is_the_one_a_row_earlier(row: int) -> None:
    """Without the recurrence, a logit depends on its own input and the token above the next."""
    model = tiny("gru", row=row, layers=1)
    with torch.no_grad():
        model.rnn.weight_hh_l0.zero_()
        model.rnn.bias_ih_l0[5:10] = -50.0  # no old state
    x = torch.randint(3, (1, 9))
    for t in range(9):
        changed = x.clone()
        changed[0, t] = (x[0, t] + 1) % 3
        moved = (model.logits(changed) - model.logits(x)).abs().sum(-1)[0] > 1e-9
        # places that read token t, or predict the one below it: x_(t-1) is what place t reads
        expected = {t, t + row - 1} & set(range(9))
        assert set(moved.nonzero().flatten().tolist()) == expected


@pytest.mark.parametrize("row", [None, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_steps_reading_at_once_and_cached_generation_agree(cell: str, row: int | None) -> None:
    model, x = tiny(cell, row=row), torch.randint(3, (2, 7))
    state = model.begin(2, 9)
    stepped = []
    for token in x.unbind(1):
        logits, state = model.step(token, state)
        stepped.append(logits)
    close(torch.stack(stepped, 1), model.logits(x))
    close(model.read(x, model.begin(2, 9))[0], model.logits(x)[:, -1])
    drawn = [
        model.generate(x, 12, cache=cache, generator=torch.Generator().manual_seed(0))
        for cache in (True, False)
    ]
    assert (drawn[0] == drawn[1]).all()


@pytest.mark.parametrize("cell", CELLS)
def test_a_text_can_be_read_in_pieces(cell: str) -> None:
    model, x = tiny(cell), torch.randint(3, (2, 10))
    first, memory = model.carry(x[:, :4])
    second, _ = model.carry(x[:, 4:], memory)
    close(torch.cat([first, second], 1), model.logits(x))


def test_gated_units_of_the_model_are_the_equations() -> None:
    model, x = tiny("gru", layers=1), torch.randint(3, (2, 6))
    weights = tuple(getattr(model.rnn, f"{w}_l0") for w in ("weight_ih", "weight_hh"))
    weights += tuple(getattr(model.rnn, f"{b}_l0") for b in ("bias_ih", "bias_hh"))
    h = torch.zeros(2, 5)
    for t in range(6):
        h = gru_cell(model.embedding(x[:, t]), h, weights)
        close(model.head(h), model.logits(x)[:, t])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cell": "qrnn"}, "'qrnn'.*rnn, gru, lstm"),
        ({"hidden": 0}, "hidden=0"),
        ({"row": 0}, "row=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"bos": 3}, "bos=3.*0 to 2"),
    ],
)
def test_arguments_that_make_no_model_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecurrentLM(**{"vocab_size": 3, "hidden": 4, **arguments})
