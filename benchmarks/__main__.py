"""Run all measurements of this folder, or those named: ``python -m benchmarks train_epoch``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main(names: list[str]) -> int:
    """Run the measurements ``names`` (all if none) and print their tables."""
    there = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem[0] != "_")
    unknown = sorted(set(names) - set(there))
    if unknown:
        print(f"there is no benchmark {', '.join(unknown)}; there are: {', '.join(there)}")
        return 2
    for name in names or there:
        module = importlib.import_module(f"benchmarks.{name}")
        if hasattr(module, "main"):
            print(f"\n{name}: {(module.__doc__ or '').splitlines()[0]}", flush=True)
            module.main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
