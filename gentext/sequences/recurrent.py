"""Recurrent networks: a state that is carried from token to token.

The cells are written out from their equations; the language model runs the same equations by
PyTorch's fused kernels. Backpropagation through time is done by hand once, and the Jacobians that
make gradients vanish or explode are measured.

Notation: ``x`` input, ``h`` state, ``c`` the LSTM's memory; ``W`` weights; ``r, z, n`` reset gate,
update gate and new state of the GRU; ``delta`` the gradient with respect to a pre-activation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from gentext.core import check_counts, check_dropout, chosen
from gentext.core.shapes import Logits, Tokens
from gentext.core.signatures import keep_contract
from gentext.sequences.autoregressive import Autoregressive

Weights = tuple[Tensor, Tensor, Tensor, Tensor]  # w_ih, w_hh, b_ih, b_hh as in PyTorch
CELLS: dict[str, Any] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def rnn_cell(x: Tensor, h: Tensor, weights: Weights) -> Tensor:
    """The next state h′ = tanh(W x + b + V h + d) of a simple recurrent network (Elman 1990).

    Arguments: x (n, inputs), h (n, hidden); weights: those of ``nn.RNNCell`` in its order.
    """
    w_ih, w_hh, b_ih, b_hh = weights
    return torch.tanh(linear(x, w_ih, b_ih) + linear(h, w_hh, b_hh))


def gru_cell(x: Tensor, h: Tensor, weights: Weights) -> Tensor:
    """The next state h′ = (1 − z) n + z h of a gated recurrent unit (Cho et al. 2014).

    This is PyTorch's form: the reset gate acts after the product W h, and z keeps the old state.
    In the paper it acts before, and some authors exchange z and 1 − z.

    Arguments: x (n, inputs), h (n, hidden); weights: those of ``nn.GRUCell``, gates r, z, n.

    Equation: :eq:`eq-ar-gru`
    """
    w_ih, w_hh, b_ih, b_hh = weights
    x_r, x_z, x_n = linear(x, w_ih, b_ih).chunk(3, dim=-1)
    h_r, h_z, h_n = linear(h, w_hh, b_hh).chunk(3, dim=-1)
    r = torch.sigmoid(x_r + h_r)
    z = torch.sigmoid(x_z + h_z)
    n = torch.tanh(x_n + r * h_n)
    return (1 - z) * n + z * h


def lstm_cell(x: Tensor, state: tuple[Tensor, Tensor], weights: Weights) -> tuple[Tensor, Tensor]:
    """The next (h, c) of a long short-term memory: c′ = f c + i g, h′ = o tanh(c′).

    Hochreiter and Schmidhuber 1997, with the forget gate f of Gers et al. 2000.

    Arguments: x (n, inputs), h and c (n, hidden); weights: those of ``nn.LSTMCell``, gates i, f, g,
    o.
    """
    h, c = state
    w_ih, w_hh, b_ih, b_hh = weights
    i, f, g, o = (linear(x, w_ih, b_ih) + linear(h, w_hh, b_hh)).chunk(4, dim=-1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def bptt(
    h: Float[Tensor, "t1 d"], loss_grads: Float[Tensor, "t d"], w_hh: Float[Tensor, "d d"]
) -> tuple[Tensor, Tensor]:
    """Backpropagation through time in h_t = tanh(W h_(t−1) + …), by hand.

    From the last step to the first, δ_t = (∂ℓ_t/∂h_t + Wᵀ δ_(t+1)) ⊙ (1 − h_t²), and then
    ∂L/∂W = Σ_t δ_t h_(t−1)ᵀ (Rumelhart et al. 1986; Werbos 1990).

    Arguments:
        h: the states h_0 to h_T; loss_grads: ∂ℓ_t/∂h_t for t = 1 to T, each of its own step's loss.

    Returns δ_1 … δ_T (t, d) and ∂L/∂W (d, d).

    Equation: :eq:`eq-ar-bptt`
    """
    deltas = torch.zeros_like(loss_grads)
    later = torch.zeros_like(h[0])
    for t in reversed(range(len(loss_grads))):
        later = (loss_grads[t] + w_hh.T @ later) * (1 - h[t + 1] ** 2)
        deltas[t] = later
    return deltas, deltas.T @ h[:-1]


def jacobian_norms(cell: Callable[[Tensor, Tensor], Tensor], x: Tensor, h: Tensor) -> Tensor:
    """‖∂h_T/∂h_t‖₂ for t = T − 1 down to 0: how much a state still changes one k steps later.

    Arguments:
        cell: (x_t (inputs,), h (d,)) -> next state (d,); for an LSTM, h and c in one vector.
        x: the inputs (T, inputs); h: the first state (d,).
    """
    jacobian: Any = torch.func.jacrev(cell, argnums=1)
    steps = []
    for x_t in x:
        steps.append(jacobian(x_t, h).detach())
        h = cell(x_t, h)
    product = torch.eye(len(h), dtype=h.dtype, device=h.device)
    norms = []
    for step in reversed(steps):
        product = product @ step
        norms.append(torch.linalg.matrix_norm(product, ord=2))
    return torch.stack(norms)


def jacobian_bounds(h: Float[Tensor, "t d"], w_hh: Float[Tensor, "d d"]) -> Tensor:
    """The bound of these norms for tanh: Π max_i(1 − h_(t,i)²) σ₁(W)^k over the last k steps.

    ``h`` are the states h_1 to h_T; σ₁ is the largest singular value (Pascanu et al. 2013).

    Equation: :eq:`eq-ar-vanish`
    """
    slopes = (1 - h**2).amax(dim=1)
    return (slopes * torch.linalg.matrix_norm(w_hh, ord=2)).flip(0).cumprod(0)


class RecurrentLM(Autoregressive):
    """A language model with a recurrent network: embedding, ``layers`` of a cell, linear head.

    Arguments:
        vocab_size: tokens in the vocabulary; hidden: size of the state of each layer.
        cell: "rnn", "gru" or "lstm"; dropout: share of values set to 0 before and after the cells.
        bos, pad: see ``Autoregressive``.
        row: for images read row by row, the width of a row: the network then also sees the token
            above the one to be predicted, and its column.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        hidden: int,
        layers: int = 1,
        cell: str = "gru",
        dropout: float = 0.0,
        bos: int = 1,
        pad: int | None = None,
        row: int | None = None,
    ) -> None:
        super().__init__()
        recurrent = chosen("cell", cell, CELLS)
        check_counts(vocab_size=vocab_size, hidden=hidden, layers=layers)
        check_counts(row=1 if row is None else row)
        check_dropout(dropout)
        for name, token in {"bos": bos, "pad": pad}.items():
            if token is not None and not 0 <= token < vocab_size:
                raise ValueError(f"got {name}={token}; it must be a token, 0 to {vocab_size - 1}")
        self.vocab_size, self.bos, self.pad, self.row = vocab_size, bos, pad, row
        width = min(hidden, 128)
        self.embedding = nn.Embedding(vocab_size, width)
        inputs = width if row is None else 2 * width
        self.column = None if row is None else nn.Embedding(row, inputs)
        self.rnn = recurrent(inputs, hidden, layers, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, vocab_size)

    def logits(self, tokens: Tokens) -> Logits:
        """The logits of the token after each place, from an empty state."""
        return self.carry(self.check_tokens(tokens))[0]

    def carry(self, tokens: Tokens, memory: Any = None) -> tuple[Logits, Any]:
        """The logits after each token, and the state to go on with, as PyTorch's modules give it.

        To train on long texts piece by piece, hand the detached state on to the next piece: the
        gradient is cut there (truncated backpropagation), the memory is not.
        """
        return self._run(self._inputs(tokens, tokens), memory)

    def begin(self, n: int, capacity: int) -> Any:
        """An empty state, and with ``row`` the tokens read so far."""
        h = self.head.weight.new_zeros(n, self.rnn.num_layers, self.rnn.hidden_size)
        past = None if self.row is None else self.head.weight.new_empty(n, 0).long()
        return (h, h.clone() if isinstance(self.rnn, nn.LSTM) else None, past)

    def step(self, token: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Read one token (n,): the logits (n, v) of the next, and the new state."""
        return self.read(token[:, None], state)

    def read(self, tokens: Tokens, state: Any) -> tuple[Tensor, Any]:
        """Read the tokens (n, t) in one pass of the fused kernel."""
        h, c, past = state
        if past is not None:
            past = torch.cat([past, tokens], dim=1)
        inputs = self._inputs(tokens, tokens if past is None else past)
        h = h.transpose(0, 1).contiguous()
        memory = h if c is None else (h, c.transpose(0, 1).contiguous())
        logits, memory = self._run(inputs, memory)
        h, c = (memory, None) if c is None else memory
        return logits[:, -1], (h.transpose(0, 1), c if c is None else c.transpose(0, 1), past)

    def _run(self, inputs: Tensor, memory: Any) -> tuple[Tensor, Any]:
        if memory is None:  # of the inputs' kind, also under vmap
            h = inputs.new_zeros(self.rnn.num_layers, len(inputs), self.rnn.hidden_size)
            memory = (h, h) if isinstance(self.rnn, nn.LSTM) else h
        y, memory = self.rnn(self.dropout(inputs), memory)
        return self.head(self.dropout(y)), memory

    def _inputs(self, tokens: Tensor, past: Tensor) -> Tensor:
        """The embeddings of ``tokens`` (the newest of ``past``), and of the tokens above."""
        before = self.embedding(tokens)
        if self.row is None or self.column is None:
            return before
        # At place i the token x_i is predicted; above it is x_(i − row), at place i − row + 1
        # of what was read. Above the first row there is none, and bos stands for it.
        places = torch.arange(past.shape[1] - tokens.shape[1], past.shape[1], device=past.device)
        first = past.new_full((len(past), self.row - 1), self.bos)
        above = self.embedding(torch.cat([first, past], dim=1)[:, places])
        return torch.cat([before, above], dim=-1) + self.column(places % self.row)


keep_contract(globals())
