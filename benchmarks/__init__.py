"""Measurements beside peers, on the machine at hand: ``python -m benchmarks [name ...]``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def alternate(
    contenders: dict[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each contender in ``rounds`` rounds, all of them in turn, after a warm-up.

    Alternating keeps what else the machine does from favouring one of them; where that is a lot,
    ``time.process_time`` as the ``clock`` counts only what the process itself computed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for run in contenders.values():
        run()
    for round_ in range(rounds):
        order = list(contenders) if round_ % 2 else list(reversed(contenders))
        for name in order:
            start = clock()
            contenders[name]()
            seconds[name].append(clock() - start)
    return seconds


def table(seconds: dict[str, list[float]], baseline: str) -> str:
    """Medians with their quartiles, and the median ratio to ``baseline`` in the same round."""
    lines = [f"{'':24}{'median s':>10}{'quartiles':>20}{'ratio':>8}{'quartiles':>18}"]
    for name, values in seconds.items():
        ratios = [mine / base for mine, base in zip(values, seconds[baseline], strict=True)]
        (low, middle, high), (least, ratio, most) = map(_quartiles, (values, ratios))
        spread, spread_of_ratio = f"{low:.3f} to {high:.3f}", f"{least:.3f} to {most:.3f}"
        lines.append(f"{name:24}{middle:10.3f}{spread:>20}{ratio:8.3f}{spread_of_ratio:>18}")
    return "\n".join(lines)


def _quartiles(values: list[float]) -> list[float]:
    return statistics.quantiles(values, n=4, method="inclusive")
