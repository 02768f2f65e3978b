"""``python -m tests.sweep --inputs 100000 --seed 0``: hostile calls of everything that is public.

Hypothesis draws the calls: a subject, and one or two of its arguments that become hostile. The
checks of types and shapes that pytest switches on are off, as for those who use the library.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
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
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.sweep import hostile, valid
from tests.sweep.judge import Verdict, all_finite, differ, judged, wrong_shape
from tests.sweep.subjects import Subject, subjects

CHUNK = 100  # calls that Hypothesis draws in one go
MEMORY = 12 * 2**30  # bytes that a process may ask for
ROUNDS = ("steps", "repeats", "sweeps", "draws")  # of what takes time, and no memory
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
    """A call of ``subject`` in which one or two arguments are changed, or none, and how it ends.

    With valid arguments, or others that are equal, it has to work, with the same result.
    """
    with _quiet():
        of = None if subject.owner is None else valid.owner(subject)
        plain, rest = valid.arguments(subject)
    given, said = dict(plain), {}
    for name in data.draw(_names(subject, plain)):
        before = plain.get(name, subject.parameters[name].default)
        code, make = data.draw(hostile.change(before))
        with contextlib.suppress(Exception):  # where a change means nothing for this value
            given[name] = make(before)
            said[name] = code
    training = data.draw(st.booleans())
    if of is not None and isinstance(of, torch.nn.Module):
        of.train(training)
    with _quiet():
        verdict = _called(subject, of, (plain, given), rest, said)
    if verdict.what.startswith("took more") and any(said.get(name) == "10**12" for name in ROUNDS):
        verdict = Verdict("works")  # as long as it was told to
    return subject.name, ", ".join(f"{name}={code}" for name, code in said.items()), verdict


def _names(subject: Subject, plain: dict[str, Any]) -> st.SearchStrategy[list[str]]:
    """Names of the arguments that are changed: one or two, and now and then none."""
    every = [name for name, p in subject.parameters.items() if p.default is not p.empty]
    every = sorted({*every, *(set(plain) & set(subject.parameters))})
    if not every:
        return st.just([])
    some = st.lists(st.sampled_from(every), min_size=1, max_size=2, unique=True)
    return st.integers(0, 11).flatmap(lambda k: some if k else st.just([]))


def copied(of: Any) -> Any:
    """A copy, but for what holds results of a computation with gradients."""
    try:
        return copy.deepcopy(of)
    except RuntimeError:
        return of


def _called(
    subject: Subject, of: Any, both: tuple[dict[str, Any], ...], rest: Any, said: dict[str, str]
) -> Verdict:
    """The verdict on a call, with the plain one before it where the two should agree."""
    plain, given = both
    valid_ones = {name: p.default for name, p in subject.parameters.items()} | plain
    simple = all(type(valid_ones[name]) in (int, float, list, tuple) for name in said)
    same = simple and set(said.values()) <= hostile.SAME
    seed_number = zlib.crc32(subject.name.encode())
    begins = subject.method == "begin"  # what it reserves is filled later
    finite = not begins and all_finite([*given.values(), *rest])
    if not same:
        torch.manual_seed(seed_number)
        wrong = partial(wrong_shape, subject.name, given)
        return judged(lambda: valid.called(subject, of, given, rest), finite, wrong)
    results = []

    def once(arguments: dict[str, Any]) -> Any:
        torch.manual_seed(seed_number)
        results.append(valid.called(subject, copied(of), arguments, rest))
        return results[-1]

    verdict = judged(lambda: once(plain), finite, partial(wrong_shape, subject.name, plain))
    if verdict.kind == "works" and said:
        verdict = judged(
            lambda: once(valid.arguments(subject)[0] | {n: given[n] for n in said}), finite
        )
        if verdict.kind == "works" and not isinstance(results[0], Iterator) and differ(*results):
            return Verdict("fault", "another result for equal arguments")
    if verdict.kind == "refused":
        return Verdict("fault", f"valid arguments are refused: {verdict.what[:100]}")
    return verdict


@contextlib.contextmanager
def _quiet() -> Any:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


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
            faults[verdict.where or f"{name} ({verdict.what[:40]})", kind, argument].append(
                f"{name}({said})  {verdict.what}"
            )
    lines = [
        f"{where}  [{len(found)}]  {min(found, key=len)}"
        for (where, _, _), found in sorted(faults.items())
    ]
    total = summarised(rows).get("all", {})
    return "\n".join([*lines, f"{len(lines)} different faults; {total}"])
