"""Everything that is public works or refuses in words, whatever it is given."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import gentext as gt
from tests.sweep import valid
from tests.sweep.subjects import subjects
from tests.sweep.valid import missing

ROOT = Path(__file__).resolve().parents[2]
INPUTS = 1500  # a small part of the recorded sweep in experiments/sweep.json


def test_everything_public_is_swept() -> None:
    """What is new needs valid arguments in ``table.py``, from which the sweep begins."""
    assert len(subjects()) > 1000
    assert missing() == []


def test_hostile_calls_work_or_are_refused_in_words() -> None:
    """In a process of its own, without the checks of types and shapes that pytest switches on."""
    command = [sys.executable, "-m", "tests.sweep", "--seed", "0", "--inputs", str(INPUTS)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


BELOW, ONES = torch.tensor([[-0.5, 0.5], [0.5, 0.5]]), torch.ones(2, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gt.distributions.kl_normal(ONES, BELOW), "std below 0"),
        (lambda: gt.score.dsm_loss(lambda x: x, ONES, ONES, 0 * ONES), "sigma that is not above"),
        (lambda: gt.f_divergence.optimal_critic(BELOW[0], ONES[0], "kl"), "p or q below 0"),
        (lambda: gt.bert.log_odds_ratios(BELOW), "not above 0"),
        (lambda: gt.dequantization.to_logits(BELOW), r"v outside \[0, 1\]"),
        (lambda: gt.langevin.corrector_step(ONES, 0.0), "snr must be above 0"),
        (lambda: gt.autoregressive.perplexity(ONES, 0), "tokens must be a whole number"),
        (lambda: gt.autoregressive.bits_per_char(ONES, 0), "characters must be a whole number"),
        (lambda: gt.dirac.momentum_roots(1j, math.inf, 0.5), "eta"),
        (lambda: gt.bound.continuous_bound(200 * ONES[0], 0 * ONES), "no finite torch.float32"),
        (lambda: gt.bound.grey_nll(BELOW, BELOW, torch.tensor(1e-30), 17), "width that is not"),
        (
            lambda: gt.velocity.matching_error(lambda x, t: x, ONES, ONES, ONES[:1]),
            r"each of 2|\(n\)",
        ),
        (lambda: gt.distributions.kl_multivariate_normal(ONES[0], ONES, ONES[0], ONES), "cov_1"),
        (lambda: gt.masking.reveal(ONES[0], ONES[0]), "times that are not in order"),
        (lambda: gt.transforms.start_at(torch.nn.Linear(1, 1), torch.tensor(1j)), "complex bias"),
        (lambda: gt.transformer.layer_norm(ONES, ONES[0], ONES[0], -1.0), "eps"),
        (lambda: gt.transformer.FeedForward(2, 0), "hidden must be a whole number"),
        (lambda: gt.transforms.Coupling(2, hidden=(0,)), "hidden must be a whole number"),
        (lambda: gt.masked.MaskedMLP(0, (2,), outputs=1), "features must be a whole number"),
        (lambda: gt.masked.MaskedLinear(ONES[:, :0]), "1 at least"),
        (lambda: gt.scaling.interval([], lambda law: 0.0), "0 laws"),
    ],
)
def test_values_outside_of_a_domain_are_refused(call: Callable[[], object], message: str) -> None:
    """Found by the sweep, where they gave NaN."""
    with pytest.raises(ValueError, match=message):
        call()


SHAPED = [name for name, s in subjects().items() if "shape" in s.parameters and s.owner is None]


@pytest.mark.parametrize("name", SHAPED)
def test_an_example_without_a_value_is_refused(name: str) -> None:
    """Layers without weights are made of it, with a warning of PyTorch's or none."""
    given, rest = valid.arguments(subjects()[name])
    for place in range(len(given["shape"])):
        shape = tuple(0 if place == k else side for k, side in enumerate(given["shape"]))
        with pytest.raises(ValueError, match=r"side|shape|inputs"):
            valid.called(subjects()[name], None, {**given, "shape": shape}, rest)
