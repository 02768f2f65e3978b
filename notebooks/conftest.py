"""Test the notebooks in the environment in which they are run for publication."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for pytest not started by python -m

from book.tools import replay
from book.tools.notebooks import kernel_environment

replay.install()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Let a kernel that starts here inherit that environment, and nothing else."""
    before, wanted = dict(os.environ), kernel_environment()
    os.environ.clear()
    os.environ.update(wanted)
    try:
        return (yield)
    finally:
        os.environ.clear()
        os.environ.update(before)
