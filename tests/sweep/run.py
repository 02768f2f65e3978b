"""``python -m tests.sweep --inputs 100000 --seed 0``: hostile calls of everything that is public.

Hypothesis draws the calls: a subject, and one or two of its arguments that become hostile. The
checks of types and shapes that pytest switches on are off, as for those who use the library.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import zlib
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.sweep import hostile, valid
from tests.sweep.judge import Verdict, all_finite, judged
from tests.sweep.subjects import Subject, subjects

CHUNK = 100  # calls that Hypothesis draws in one go
MEMORY = 12 * 2**30  # bytes that a process may ask for
Row = tuple[str, str, Verdict]


def main() -> int:
    """Run the sweep; the exit status is 1 where a fault was found."""
    options = _options()
    names = [name for name in subjects() if name.startswith(tuple(options.only.split(",")))]
    end = time.time() + options.seconds
    jobs = [
        (names, min(CHUNK, options.inputs - start), options.seed * 100_003 + start, end)
        for start in range(0, options.inputs, CHUNK)
    ]
    rows: list[Row] = []
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, spawn, initializer=_begin) as pool:
        for done in pool.map(run, jobs):
            rows += done
            print(f"{len(rows):,} calls", end="\r", file=sys.stderr, flush=True)
    summary = summarised(rows)
    print(report(rows))
    if options.out:
        Path(options.out).write_text(json.dumps(summary, indent=1) + "\n", "utf-8")
    return int(summary["all"]["faults"] > 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=2000, help="how many calls")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="", help="beginnings of names, such as vae.VAE,gpt")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so long")
    parser.add_argument("--out", help="a JSON file for the summary")
    return parser.parse_args()


def _begin() -> None:
    torch.set_num_threads(1)
    os.chdir(tempfile.mkdtemp())
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def run(job: tuple[list[str], int, int, float]) -> list[Row]:
    """``count`` calls of the subjects ``names``, drawn by the seed ``number``."""
    names, count, number, end = job
    rows: list[Row] = []

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def draw(data: st.DataObject) -> None:
        if len(rows) < count:
            rows.append(_drawn(data, subjects()[data.draw(st.sampled_from(names))]))

    while len(rows) < count and time.time() < end:
        draw()
    return rows


def _drawn(data: st.DataObject, subject: Subject) -> Row:
    """A call of ``subject`` in which one or two arguments are changed, and how it ends."""
    with _quiet():
        of = None if subject.owner is None else valid.owner(subject)
        plain, rest = valid.arguments(subject)
    defaults = {name: p.default for name, p in subject.parameters.items() if name not in plain}
    every = {**{n: d for n, d in defaults.items() if d is not subject.parameters[n].empty}, **plain}
    said = []
    some = st.lists(st.sampled_from(sorted(every)), min_size=1, max_size=2, unique=True)
    for name in data.draw(some) if every else ():
        code, make = data.draw(hostile.change(every[name]))
        with contextlib.suppress(Exception):  # where a change means nothing for this value
            plain[name] = make(every[name])
            said.append(f"{name}={code}")
    if of is not None and isinstance(of, torch.nn.Module):
        of.train(data.draw(st.booleans()))
    torch.manual_seed(zlib.crc32(subject.name.encode()))
    finite = all_finite([*plain.values(), *rest])
    with _quiet():
        verdict = judged(lambda: valid.called(subject, of, plain, rest), finite)
    return subject.name, ", ".join(said), verdict


@contextlib.contextmanager
def _quiet() -> Any:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def summarised(rows: list[Row]) -> dict[str, dict[str, int]]:
    """How many inputs each subject had, and how they ended."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for name, _, verdict in rows:
        for key in ("all", name):
            counts[key]["inputs"] += 1
            counts[key][verdict.kind] += 1
    words = {"works": "works", "refused": "refused", "faults": "fault"}
    return {
        name: {"inputs": c["inputs"], **{word: c[kind] for word, kind in words.items()}}
        for name, c in sorted(counts.items())
    }


def report(rows: list[Row]) -> str:
    """Each different fault once, with a call that shows it, and the sums."""
    faults: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for name, said, verdict in rows:
        if verdict.kind == "fault":
            argument = said.partition("=")[0] if ", " not in said else "*"
            kind = verdict.what.partition(":")[0]
            faults[verdict.where or name, kind, argument].append(f"{name}({said})  {verdict.what}")
    lines = [
        f"{where}  [{len(found)}]  {min(found, key=len)}"
        for (where, _, _), found in sorted(faults.items())
    ]
    total = summarised(rows).get("all", {})
    return "\n".join([*lines, f"{len(lines)} different faults; {total}"])
