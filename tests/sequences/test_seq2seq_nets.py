"""The networks of translation against torch.nn, their own equations and their own steps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from gentext.sequences.attention import sinusoidal_positions
from gentext.sequences.seq2seq_nets import NETS

pytestmark = pytest.mark.usefixtures("float64")


def small(name: str, layers: int = 2) -> nn.Module:
    net = NETS[name](8, layers, 2, 0.0, 12).double().eval()
    for parameter in net.parameters():  # biases too, which begin as zeros
        nn.init.normal_(parameter, std=0.5)
    return net


def shown_of(*lengths: int, most: int = 6) -> Tensor:
    return torch.arange(most) < torch.tensor(lengths)[:, None]


def test_recurrent_encoder_is_the_bidirectional_one_of_torch() -> None:
    model = small("gru")
    x, lengths = torch.randn(3, 6, 8), torch.tensor([6, 2, 4])
    shown = torch.arange(6) < lengths[:, None]
    peer = nn.GRU(8, 4, num_layers=2, batch_first=True, bidirectional=True)
    with torch.no_grad():
        for k, (forward, backward) in enumerate(zip(model.forwards, model.backwards, strict=True)):
            for name in ("weight_ih_l", "weight_hh_l", "bias_ih_l", "bias_hh_l"):
                getattr(peer, f"{name}{k}").copy_(getattr(forward, f"{name}0"))
                getattr(peer, f"{name}{k}_reverse").copy_(getattr(backward, f"{name}0"))
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected = pad_packed_sequence(peer(packed)[0], batch_first=True)[0]
    found = model.read(x, shown).masked_fill(~shown[..., None], 0)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_recurrent_decoder_follows_its_equations_step_by_step(layers: int) -> None:
    net = small("gru", layers)
    y, memory = torch.randn(1, 5, 8), torch.randn(1, 4, 8)
    shown = torch.tensor([[True, True, True, False]])
    cells = []
    for layer in (net.first, *net.further):
        cell = nn.GRUCell(layer.input_size, 8)
        cell.load_state_dict({k.removesuffix("_l0"): v for k, v in layer.state_dict().items()})
        cells.append(cell)
    states = [*net.start(memory[:, :3].mean(1)).tanh().split(8, dim=1)]
    rows, maps = [], []
    for t in range(5):
        states[0] = cells[0](y[:, t], states[0])
        weights = (memory[0, :3] @ (net.query.weight @ states[0][0])).softmax(0)
        context = (weights[:, None] * memory[0, :3]).sum(0, keepdim=True)
        x = torch.cat([states[0], context], dim=1)
        for k in range(1, layers):
            states[k] = x = cells[k](x, states[k])
        rows.append(net.join(torch.cat([states[-1], context], dim=1)).tanh())
        maps.append(F.pad(weights, (0, 1)))
    torch.testing.assert_close(net.write(y, memory, shown), torch.stack(rows, dim=1))
    torch.testing.assert_close(net.attention(y, memory, shown)[0, 0, 0], torch.stack(maps))


@torch.no_grad()
@pytest.mark.parametrize("name", NETS)
def test_writing_step_by_step_is_writing_at_once(name: str) -> None:
    net, shown = small(name), shown_of(6, 2, 4)
    y, memory = torch.randn(3, 5, 8), net.read(torch.randn(3, 6, 8), shown)
    state, parts = net.begin(memory, shown, 5), []
    for t in range(5):
        h, state = net.step(y[:, t : t + 1], state)
        parts.append(h)
    torch.testing.assert_close(
        torch.cat(parts, dim=1), net.write(y, memory, shown), atol=1e-12, rtol=0
    )


@torch.no_grad()
def test_the_transformer_adds_positions_and_reads_what_is_shown() -> None:
    """By its blocks, a row alone and without padding."""
    net, shown = small("transformer"), shown_of(6, 2, 4)
    x, y = torch.randn(3, 6, 8), torch.randn(3, 5, 8)
    memory = net.read(x, shown)
    found, maps = net.write(y, memory, shown), net.attention(y, memory, shown)
    places = sinusoidal_positions(12, 8)
    for row, length in enumerate((6, 2, 4)):
        alone = net.blocks.encode(x[row : row + 1, :length] + places[:length])
        torch.testing.assert_close(memory[row, :length], alone[0], atol=1e-12, rtol=0)
        expected = net.blocks.decode(y[row : row + 1] + places[:5], alone)
        torch.testing.assert_close(found[row], expected[0], atol=1e-12, rtol=0)
        assert (maps[row, ..., length:] == 0).all()
    torch.testing.assert_close(maps.sum(-1), torch.ones(3, 2, 2, 5), atol=1e-12, rtol=0)


def test_two_directions_need_an_even_width() -> None:
    with pytest.raises(ValueError, match=r"width must be even.*7"):
        NETS["gru"](7, 2, 2, 0.0, 12)
