"""All measures under one name, ``gt.metrics``: of models, of samples, of texts.

``report`` measures a model by what it can compute, ``estimates`` holds means, errors and bits,
``fidelity`` compares samples with data, ``language`` scores texts and translations.
"""

# ruff: noqa: F401 - these are the names of the measures

from gentext.evaluation.estimates import Estimate, bits_per_dim, mean_and_error, paired_difference
from gentext.evaluation.fidelity import (
    Coverage,
    PrecisionRecall,
    c2st,
    frechet_distance,
    mmd,
    mode_coverage,
    precision_recall,
)
from gentext.evaluation.language import bits_per_char, perplexity, translation_scores
from gentext.evaluation.report import evaluate
