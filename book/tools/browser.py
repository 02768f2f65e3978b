"""Find a Chromium for the tests of the book, or install one: ``python book/tools/browser.py``.

Without a browser the tests that need one are skipped; with ``CI=true`` that is an error, so that
they always run there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
APPS = (
    Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"),
    Path("/Applications/Chromium.app/Contents/MacOS/Chromium"),
)
FLAGS = (  # quiet: no sandbox for root, no look-ups of updates
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def playwright_own() -> Path | None:
    """Where Playwright would keep its own Chromium; None without Playwright."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    with sync_playwright() as playwright:
        return Path(playwright.chromium.executable_path)


def candidates() -> Iterator[Path]:
    """Every place where a Chromium may be, the likeliest first."""
    yield from (Path(found) for name in NAMES if (found := shutil.which(name)))
    yield from APPS
    if own := playwright_own():
        yield own


def find() -> Path | None:
    """A Chromium on this machine, or None."""
    return next((path for path in candidates() if path.is_file()), None)


def runs(command: list[str]) -> bool:
    """Whether a command exists and succeeds."""
    print("+", *command, flush=True)
    try:
        return subprocess.run(command, check=False, timeout=900).returncode == 0
    except (OSError, subprocess.TimeoutExpired) as error:
        print(error)
        return False


def install() -> None:
    """Try the system's package manager where that is allowed, then Playwright."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if root and shutil.which("apt-get"):
        packages = ["chromium", "fonts-noto-cjk"]
        quiet = ["--yes", "--quiet", "--no-install-recommends"]
        if runs(["apt-get", "update", "--quiet"]) and runs(
            ["apt-get", "install", *quiet, *packages]
        ):
            return
    runs([sys.executable, "-m", "playwright", "install", "chromium"])


def in_ci() -> bool:
    """Whether this is a run of continuous integration, where a browser is a must."""
    return os.environ.get("CI", "").lower() in ("true", "1")


def main() -> int:
    """Find or install a browser and say which."""
    found = find()
    if found is None:
        install()
        found = find()
    if found is not None:
        print(f"Browser for the tests of the book: {found}")
        return 0
    print(
        "\n*** NO BROWSER: the tests of the rendered book will be SKIPPED. ***\n"
        "Neither apt-get nor Playwright could install Chromium (their messages stand above).\n"
        "Install chromium or google-chrome by hand and run the tests again.\n",
        file=sys.stderr,
    )
    return 1 if in_ci() else 0


if __name__ == "__main__":
    sys.exit(main())
