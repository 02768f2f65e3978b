"""`import gentext` beside `import torch`: at most 1.15 times its time.

Each is timed in fresh interpreters by turns; the last line is the package with all its public
names loaded.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from benchmarks import alternate, table

ROUNDS = 11
STATEMENTS = {
    "import torch": "import torch",
    "import gentext": "import torch, gentext",
    "all public names": "import gentext; [getattr(gentext, n) for n in gentext.__all__]",
}


def fresh(statement: str) -> Callable[[], object]:
    """Runs ``statement`` in a new interpreter."""
    return lambda: subprocess.run([sys.executable, "-c", statement], check=True)


def main() -> None:
    """Print the table."""
    seconds = alternate({name: fresh(code) for name, code in STATEMENTS.items()}, ROUNDS)
    print(table(seconds, "import torch"))


if __name__ == "__main__":
    main()
