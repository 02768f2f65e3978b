"""What experiments with several seeds have in common: their command line, and the file they write.

A run that is broken off keeps what it has; one that is begun again does the seeds that it is given.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).parent
Run = Callable[[int, int], dict[str, Any]]


def record(about: str | None, name: str, run: Run, *, steps: int, seeds: int = 5) -> None:
    """Write ``run(seed, steps)`` of each seed to ``<name>.json``; ``--tiny`` takes three steps."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(seeds)))
    parser.add_argument("--out", type=Path, default=FOLDER / f"{name}.json")
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = json.loads(given.out.read_text("utf-8")) if given.out.exists() else {}
    for seed in given.seeds:
        found[str(seed)] = run(seed, 3 if given.tiny else steps)
        text = json.dumps(found, indent=1, ensure_ascii=False)
        given.out.write_text(text + "\n", "utf-8")
