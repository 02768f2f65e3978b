"""All measures can be named as ``gt.metrics``, and are those of their modules."""

from __future__ import annotations

from types import ModuleType

import pytest

import gentext as gt
from gentext.evaluation import estimates, fidelity, language, report

MEASURES = {
    estimates: "Estimate bits_per_dim mean_and_error paired_difference",
    fidelity: "Coverage PrecisionRecall c2st frechet_distance mmd mode_coverage precision_recall",
    language: "bits_per_char perplexity translation_scores",
    report: "evaluate",
}


@pytest.mark.parametrize("module", MEASURES, ids=lambda module: module.__name__)
def test_a_measure_is_that_of_its_module(module) -> None:
    for name in MEASURES[module].split():
        assert getattr(gt.metrics, name) is getattr(module, name)


def test_no_other_names_are_promised() -> None:
    named = vars(gt.metrics).items()
    public = {k for k, v in named if not k.startswith("_") and not isinstance(v, ModuleType)}
    assert public == set(" ".join(MEASURES.values()).split())
