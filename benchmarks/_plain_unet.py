"""The peer of the benchmarks of the U-Net: a plain one, as tutorials write it in PyTorch's modules.

Each block has a linear map of its own for what the time says, attention is a module of PyTorch,
and images stay in PyTorch's own order of memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentext.denoising.unet import GROUPS, HEADS, HIDDEN_PER_CHANNEL, ResidualBlock, UNet

SAME = ("stem", "norm", "head")  # parts of the same name


class PlainAttention(nn.Module):
    """Places attend to each other."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.attention = nn.MultiheadAttention(channels, HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to the same."""
        n, c, h, w = x.shape
        places = self.norm(x).view(n, c, h * w).transpose(1, 2)
        read, _ = self.attention(places, places, places, need_weights=False)
        return x + read.transpose(1, 2).reshape(n, c, h, w)


class PlainBlock(nn.Module):
    """Two convolutions; the second sees its input scaled and shifted by what the time says."""

    def __init__(self, inputs: int, outputs: int, hidden: int, attends: bool) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time = nn.Linear(hidden, 2 * outputs)
        self.norm2 = nn.GroupNorm(GROUPS, outputs, affine=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        self.attention = PlainAttention(outputs) if attends else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(n, inputs, h, w) and (n, hidden) to (n, outputs, h, w)."""
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.time(F.silu(time))[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(h) * (1 + scale) + shift
        return self.attention(self.skip(x) + self.conv2(F.silu(h)))


class PlainUNet(nn.Module):
    """A U-Net of the same maths and weights as ``model``, which has no labels and no dropout."""

    def __init__(self, model: UNet) -> None:
        super().__init__()
        widths, hidden = _widths(model), HIDDEN_PER_CHANNEL * model.stem.out_channels
        self.channels, last = widths[0], len(widths) - 1
        self.time1 = nn.Linear(self.channels, hidden)
        self.time2 = nn.Linear(hidden, hidden)
        self.stem = nn.Conv2d(model.shape[0], self.channels, 3, padding=1)
        down = [PlainBlock(c, c, hidden, k == last) for k, c in enumerate(widths)]
        up = [PlainBlock(2 * c, c, hidden, k == last) for k, c in enumerate(widths)]
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(reversed(up))
        self.middle = PlainBlock(widths[-1], widths[-1], hidden, True)
        steps = list(pairwise(widths))
        self.halvings = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in steps)
        self.doublings = nn.ModuleList(
            nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in reversed(steps)
        )
        self.norm = nn.GroupNorm(GROUPS, self.channels)
        self.head = nn.Conv2d(self.channels, model.head.out_channels, 3, padding=1)  # type: ignore[arg-type]
        _copy(model, self)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """What the network says of x (n, c, h, w) at times t (n,)."""
        omega = torch.logspace(0, -4, self.channels // 2, device=x.device, dtype=torch.float32)
        angles = t[:, None] * omega
        waves = torch.cat([torch.sin(angles), torch.cos(angles)], dim=1).to(x.dtype)
        time = self.time2(F.silu(self.time1(waves)))
        x, skips = self.stem(x), []
        for k, block in enumerate(self.down):
            x = block(x if k == 0 else self.halvings[k - 1](x), time)
            skips.append(x)
        x = self.middle(x, time)
        for k, block in enumerate(self.up):
            x = x if k == 0 else self.doublings[k - 1](x)
            x = block(torch.cat([x, skips.pop()], dim=1), time)
        return self.head(F.silu(self.norm(x)))


def _widths(model: UNet) -> list[int]:
    """The channels of each resolution; ValueError where there are several blocks on one."""
    blocks = [m for m in model.down if isinstance(m, ResidualBlock)]
    if len(model.down) != 2 * len(blocks) - 1:
        raise ValueError("the plain network has one block on each resolution: use blocks=1")
    return [block.conv1.out_channels for block in blocks]


def _copy(model: UNet, plain: PlainUNet) -> None:
    """The weights of ``model``, part by part."""
    condition = model.condition
    pairs: list[tuple[nn.Module, nn.Module]] = [
        (condition.time[0], plain.time1),
        (condition.time[2], plain.time2),
        *((part, getattr(plain, name)) for name, part in model.named_children() if name in SAME),
    ]
    ours = [m for m in model.modules() if isinstance(m, ResidualBlock)]
    theirs: Sequence[PlainBlock] = [*plain.down, plain.middle, *plain.up]  # type: ignore[list-item]
    pairs += [
        (m, p) for m, p in zip(_others(model), [*plain.halvings, *plain.doublings], strict=True)
    ]
    weights = condition.layers.weight.split(condition.sizes)
    biases = condition.layers.bias.split(condition.sizes)
    with torch.no_grad():
        for mine, its, weight, bias in zip(ours, theirs, weights, biases, strict=True):
            pairs += [(mine.norm1, its.norm1), (mine.conv1, its.conv1), (mine.conv2, its.conv2)]
            pairs += [(mine.skip, its.skip)]
            its.time.weight.copy_(weight)
            its.time.bias.copy_(bias)
            if mine.attends:
                _copy_attention(mine.attention, its.attention)
        for source, target in pairs:
            target.load_state_dict(source.state_dict())


def _others(model: UNet) -> list[nn.Module]:
    """What halves and doubles the resolution."""
    return [m for m in (*model.down, *model.up) if not isinstance(m, ResidualBlock)]


def _copy_attention(mine: nn.Module, its: nn.Module) -> None:
    own, theirs = mine.get_submodule("mix"), its.get_submodule("attention")
    its.get_submodule("norm").load_state_dict(mine.get_submodule("norm").state_dict())
    theirs.in_proj_weight.copy_(own.qkv.weight)  # type: ignore[operator, union-attr]
    theirs.in_proj_bias.copy_(own.qkv.bias)  # type: ignore[operator, union-attr]
    theirs.out_proj.load_state_dict(own.out.state_dict())  # type: ignore[union-attr]
