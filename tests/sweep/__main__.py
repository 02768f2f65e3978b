"""``python -m tests.sweep``; what it does is in ``run``, which other processes can import."""

import sys

from tests.sweep.run import main

if __name__ == "__main__":
    sys.exit(main())
