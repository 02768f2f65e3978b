"""What is done where a GPU is at hand, within a few minutes: see ``gpu.sh``.

The parts are rows of work, in the order of their worth. Each row is written when it is done, and a
later call does what has no result yet, or was cut short.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import sys
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that this file runs as a script

import torch  # noqa: E402

from experiments import gpu_parts  # noqa: E402
from experiments.gpu_parts import Job, Place  # noqa: E402

NEEDED = ("accelerate", "safetensors", "jaxtyping", "matplotlib", "numpy", "platformdirs")
NEEDED += ("filelock", "lazy_loader", "tqdm", "pytest", "sklearn", "tokenizers", "sacrebleu")
AT_ONCE = 12  # rows that do not need the device for themselves
LEAST = 15  # seconds; with less left, nothing begins
TAR = 15 * 2**20  # bytes of an archive of weights
FINAL = ("ok", "failed")  # how rows end that are not done again


class Results:
    """The rows so far, by part and name, in ``folder``: as JSON, as a table, and the weights."""

    def __init__(self, folder: Path, collect: Path | None = None) -> None:
        self.folder, self.collect, self.lock = folder, collect, threading.Lock()
        self.file = folder / "results.json"
        self.rows: dict[str, dict[str, Any]] = {}
        if self.file.is_file():
            self.rows = json.loads(self.file.read_text("utf-8"))["rows"]

    def final(self, job: Job) -> bool:
        """Whether a row need not be done again."""
        row = self.rows.get(job.part, {}).get(job.name, {})
        return str(row.get("ended", "")).startswith(FINAL)

    def put(self, job: Job, row: dict[str, Any]) -> None:
        """Keep a row, and write all of them."""
        with self.lock:
            self.rows.setdefault(job.part, {})[job.name] = row
            content = {"machine": machine(), "rows": self.rows}
            write(self.file, json.dumps(content, indent=1, ensure_ascii=False))
            write(self.folder / "report.md", report(content))
            logs = sorted((self.folder / "logs").glob("*.log"))
            ends = [f"== {log.stem}\n{log.read_text('utf-8', 'replace')[-4000:]}" for log in logs]
            write(self.folder / "log.txt", "\n".join(ends))
            if job.part == "weights":
                archive(self.folder)
            if self.collect is not None:
                self.collect.mkdir(parents=True, exist_ok=True)
                for path in self.folder.iterdir():
                    if path.is_file():
                        shutil.copyfile(path, self.collect / path.name)


def write(path: Path, text: str) -> None:
    """Replace a file at once, so that it is whole whenever the machine stops."""
    part = path.with_name(path.name + ".part")
    part.write_text(text + "\n", "utf-8")
    os.replace(part, path)


def archive(folder: Path) -> None:
    """All weights with a card, in archives of limited size."""
    archives: list[list[Path]] = [[]]
    for card in sorted((folder / "weights").glob("*.json")):
        pair = [card, card.with_suffix(".safetensors")]
        if not pair[1].is_file():
            continue
        if sum(path.stat().st_size for path in [*archives[-1], *pair]) > TAR:
            archives.append([])
        archives[-1] += pair
    for number, paths in enumerate(archives, 1):
        if paths:
            with tarfile.open(folder / f"weights-{number}.tar", "w") as tar:
                for path in paths:
                    tar.add(path, path.name)


def machine() -> dict[str, Any]:
    """What there is."""
    cuda = torch.cuda.is_available()
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    return {
        "device": torch.cuda.get_device_name() if cuda else "no GPU",
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "absent": absent,
    }


def report(content: dict[str, Any]) -> str:
    """Everything as one table."""
    lines = ["| part | row | ended | seconds | result |", "| --- | --- | --- | ---: | --- |"]
    for part in gpu_parts.PARTS:
        for name, row in content["rows"].get(part, {}).items():
            told = {k: v for k, v in row.items() if k not in ("ended", "seconds") and v is not None}
            result = "; ".join(f"{key} {value}" for key, value in told.items() if value != [])
            cells = (part, name, row["ended"], row.get("seconds", ""), result.replace("|", "/"))
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    facts = "; ".join(f"{key}: {value}" for key, value in content["machine"].items() if value)
    return "\n".join([facts, "", *lines])


def do(job: Job, place: Place, results: Results) -> None:
    """Do one row, or say why it was not done."""
    if place.left() < LEAST:
        results.put(job, {"ended": "no time left"})
        return
    results.put(job, {"ended": "running"})
    start = time.perf_counter()
    try:
        row = {"ended": "ok", **job.run(place)}
    except Exception as error:  # one row never ends the others
        row = {"ended": f"failed: {type(error).__name__}: {str(error)[:200]}"}
    row["seconds"] = round(time.perf_counter() - start, 1)
    results.put(job, row)
    print(job.part, job.name, json.dumps(row, ensure_ascii=False)[:500], flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Do the rows that are not done yet: first those that need the device alone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "runs" / "gpu")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(gpu_parts.PARTS)}")
    parser.add_argument("--tiny", action="store_true", help="a few steps of everything")
    parser.add_argument("--minutes", type=float, default=12.0, help="for everything together")
    parser.add_argument("--collect", type=Path, help="copy the results there after every row")
    options = parser.parse_intermixed_args(arguments)
    if unknown := [part for part in options.parts if part not in gpu_parts.PARTS]:
        parser.error(f"there is no part {unknown[0]}; there are {', '.join(gpu_parts.PARTS)}")
    for name in ("logs", "weights"):
        (options.folder / name).mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * options.minutes
    place = Place(options.folder.resolve(), options.tiny, end)
    results = Results(place.folder, options.collect)
    wanted = [part for part in gpu_parts.PARTS if part in (options.parts or gpu_parts.PARTS)]
    jobs = [job for part in wanted for job in gpu_parts.PARTS[part](options.tiny)]
    jobs = [job for job in jobs if not results.final(job)]
    for job in jobs:
        if job.alone:
            do(job, place, results)
    with ThreadPoolExecutor(1 if options.tiny else AT_ONCE) as pool:
        for job in jobs:
            if not job.alone:
                pool.submit(do, job, place, results)


if __name__ == "__main__":
    main()
