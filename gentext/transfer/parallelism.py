"""Training on many devices, in numbers: bytes of memory, idle time and traffic.

A model that one device cannot hold, or not train in time, is divided in one of four ways. Data
parallel: each device has all weights and a part of the batch; gradients are averaged. Sharded: each
device keeps a part of what belongs to the weights, and fetches the rest when it needs it. Pipeline:
each device has some of the layers, and parts of the batch pass through them one behind the other.
Tensor parallel: each device has a part of every matrix.

Notation: ``P`` parameters, d = ``devices``, S = ``stages`` of a pipeline, m = ``parts`` of the
batch that pass through it.

Source: Rajbhandari et al., SC 2020 (ZeRO); Huang et al., NeurIPS 2019 (GPipe); Patarasuk and Yuan,
J. Parallel Distrib. Comput. 2009 (ring).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gentext.core import check_count, check_counts, check_number, chosen
from gentext.core.signatures import keep_contract

WEIGHTS, GRADIENTS, OPTIMIZER = 2, 2, 12  # bytes a parameter: half precision twice, then Adam's
# single precision: a copy of the weight, and two moving averages
SHARDED: dict[str, tuple[bool, bool, bool]] = {
    "nothing": (False, False, False),
    "optimizer": (False, False, True),
    "gradients": (False, True, True),
    "weights": (True, True, True),
}


def training_bytes(P: float | int, devices: int = 1, sharded: str = "nothing") -> float:
    """Bytes a device of weights, gradients and Adam's state of P parameters in mixed precision.

    Arguments:
        sharded: what is divided by the number of devices: "nothing" (16 bytes a parameter on each),
            "optimizer", "gradients" (and the optimiser's state), or "weights" (and all the others).

    Activations come on top, which depend on the batch.

    Equation: :eq:`eq-pre-memory`
    """
    check_number("P", P, above=0)
    check_count("devices", devices)
    parts = chosen("sharding", sharded, SHARDED)
    each = (WEIGHTS, GRADIENTS, OPTIMIZER)
    shares = (size / (devices if part else 1) for size, part in zip(each, parts, strict=True))
    return P * sum(shares)


def pipeline_idle(stages: int, parts: int) -> float:
    """(S − 1)/(m + S − 1), the share of time in which a device of a pipeline has nothing to do.

    Equation: :eq:`eq-pre-bubble`
    """
    check_counts(stages=stages, parts=parts)
    return (stages - 1) / (parts + stages - 1)


def pipeline_schedule(stages: int, parts: int) -> Int[Tensor, "stages time"]:
    """Which part of the batch each stage works on at each time, forward and then backward.

    A part enters a stage when the one before has finished it and the stage is free; after the last
    part has left the last stage, all go back through the stages. 0 to m − 1 is a part going
    forward, m to 2m − 1 one going back, −1 is idle. All steps take as long.

    Equation: :eq:`eq-pre-bubble`
    """
    check_counts(stages=stages, parts=parts)
    ahead = torch.full((stages, parts + stages - 1), -1)
    for stage in range(stages):
        ahead[stage, stage : stage + parts] = torch.arange(parts)
    back = ahead.flip(0)
    return torch.cat([ahead, torch.where(back < 0, -1, back + parts)], 1)


def ring_all_reduce(
    vectors: Sequence[Float[Tensor, "n"]],
) -> tuple[list[Float[Tensor, "n"]], float]:
    """The sum of one vector from each device, on all of them, and how many numbers each sends.

    Each device cuts its vector into d chunks and passes one at a time to its neighbour in a ring:
    d − 1 times to add them up, d − 1 times to hand the sums round. Each sends 2 n (d − 1)/d
    numbers, which hardly depends on d.

    Source: Patarasuk and Yuan, J. Parallel Distrib. Comput. 2009.
    """
    check_count("vectors", len(vectors))
    d, shapes = len(vectors), {tuple(vector.shape) for vector in vectors}
    if len(shapes) > 1:
        raise ValueError(f"got vectors of shapes {sorted(shapes)}; give one of each device, alike")
    held = [[chunk.clone() for chunk in vector.tensor_split(d)] for vector in vectors]
    sent = 0
    for step in range(2 * (d - 1)):
        adding = step < d - 1  # the other half of the steps copies what is complete
        turns = [(device - step) % d for device in range(d)]
        moving = [held[device][k] for device, k in enumerate(turns)]
        for device, (k, chunk) in enumerate(zip(turns, moving, strict=True)):
            after = held[(device + 1) % d]
            after[k] = after[k] + chunk if adding else chunk
            sent += len(chunk)
    return [torch.cat(chunks) for chunks in held], sent / d


keep_contract(globals())
