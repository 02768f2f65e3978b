"""Steering a diffusion: towards a class, into the range of images, around pixels that are known.

Notation: as in ``samplers``; ``w`` the weight of guidance, 0 for none (in Ho and Salimans too;
others call 1 + w the scale); ``y`` labels or prompts as in ``conditions``.

Source: Dhariwal and Nichol, NeurIPS 2021; Ho and Salimans, 2022; Lugmayr et al., CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gentext.core import check_count, chosen, true_or_false
from gentext.core.shapes import PerExample
from gentext.core.signatures import keep_contract
from gentext.denoising.samplers import Denoiser, Draw, ddpm_step, pairs_down
from gentext.denoising.schedule import Level, Schedule, q_sample, snr_ratio

CLIPS = ("none", "static", "dynamic")
LogProb = Callable[[Tensor], PerExample]
Classify = Callable[[Tensor, int], PerExample]  # log p(y | x_t) at a level number


def cfg(conditional: Tensor, unconditional: Tensor, w: float) -> Tensor:
    """(1 + w) conditional − w unconditional, of two predictions of one kind.

    As a score it belongs to p_t(x | y)^{1+w} p_t(x)^{−w}, at each level apart: noise added to the
    distribution of this form at level 0 does not give those at the others.

    Equation: :eq:`eq-diff-cfg`

    Source: Ho and Salimans, 2022.
    """
    return (1 + w) * conditional - w * unconditional


def classifier_guidance(x_0: Tensor, x_t: Tensor, log_prob: LogProb, t: Level, w: float) -> Tensor:
    """The x_0 whose score is the given one plus w ∇ log p(y | x_t), by ``log_prob`` of x_t.

    Equation: :eq:`eq-diff-cg`

    Source: Dhariwal and Nichol, NeurIPS 2021.
    """
    with torch.inference_mode(False), torch.enable_grad():
        x = x_t.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(log_prob(x).sum(), x)
    return x_0 + w * t.sigma.square() / t.alpha * slope


def threshold(x_0: Tensor, clip: str, share: float = 0.995) -> Tensor:
    """x_0 brought into [−1, 1]: cut off ("static"), or divided by its ``share`` quantile first.

    Source: Saharia et al., NeurIPS 2022 (dynamic).
    """
    chosen("clip", clip, CLIPS)
    if clip == "none":
        return x_0
    if clip == "static":
        return x_0.clamp(-1, 1)
    most = x_0.flatten(1).abs().float().quantile(share, dim=1).clamp(min=1).to(x_0)
    most = most.view(-1, *(1 for _ in x_0.shape[1:]))
    return x_0.clamp(-most, most) / most


def steered(
    denoise: Callable[..., Tensor],
    schedule: Schedule,
    y: Tensor | None,
    w: float,
    classifier: Classify | None = None,
    clip: str = "none",
) -> Denoiser:
    """x_0 by ``denoise``(x_t, t, y), guided by a ``classifier`` or else by itself without y."""

    def predict(x_t: Tensor, t: Tensor) -> Tensor:
        x_0 = denoise(x_t, t, y)
        if classifier is not None:
            at, level = int(t[0]), schedule.at(int(t[0]))
            x_0 = classifier_guidance(x_0, x_t, lambda x: classifier(x, at), level, w)
        elif w:
            x_0 = cfg(x_0, denoise(x_t, t), w)
        return threshold(x_0, clip)

    return predict


def renoise(x_s: Tensor, s: Level, t: Level, noise: Tensor) -> Tensor:
    """A draw of q(x_t | x_s): back to the noisier level t."""
    fresh = t.sigma.square() * (1 - snr_ratio(t, s))
    return t.alpha / s.alpha * x_s + fresh.sqrt() * noise


def inpaint(
    denoiser: Denoiser,
    schedule: Schedule,
    known: Tensor,
    mask: Tensor,
    *,
    levels: list[int],
    draw: Draw,
    repeats: int = 1,
) -> Tensor:
    """x_0 that is ``known`` where ``mask`` is true; the rest is drawn to go with it.

    After every step the known part is replaced by itself with noise of that level. This does not
    draw from p(rest | known), for the rest was denoised without knowing; steps to and fro between
    two levels, ``repeats`` of them, bring it nearer.

    Source: Lugmayr et al., CVPR 2022.
    """
    check_count("repeats", repeats)
    try:
        mask = true_or_false(mask).expand(known.shape)
    except RuntimeError:
        raise ValueError(
            f"got a mask of shape {tuple(mask.shape)} for examples {tuple(known.shape)}; give True "
            "or False for each value, or for each place, as in (n, 1, h, w)"
        ) from None
    x = draw(known)
    for number, following in pairs_down(schedule, levels):
        t, s = schedule.at(number), schedule.at(following)
        for again in range(repeats, 0, -1):
            x_0 = denoiser(x, torch.full((len(x),), number, device=x.device))
            x = ddpm_step(x, x_0, t, s, draw(x))
            x = torch.where(mask, q_sample(known, draw(x), s), x)
            if again > 1 and following >= 0:
                x = renoise(x, s, t, draw(x))
    return x


keep_contract(globals())
