"""The contract that all families share: models, capabilities, shapes, checks, draws."""

# ruff: noqa: F401 - these are the names of this folder

from gentext.core.capabilities import (
    Bound,
    Classifies,
    Compares,
    Density,
    Encodes,
    Generates,
    OfShape,
    OfTokens,
    PassesOn,
    PseudoDensity,
    Represents,
    Samples,
    Translates,
    heeded,
    sample_options,
)
from gentext.core.checks import (
    at_hand,
    check_count,
    check_counts,
    check_dropout,
    check_examples,
    check_finite,
    check_grey_levels,
    check_heads,
    check_labels,
    check_number,
    check_shape,
    check_tensor,
    check_tokens,
    chosen,
    grey_levels,
    if_given,
    is_finite,
    traced,
    transformed,
    true_or_false,
    whole_numbers,
)
from gentext.core.draws import (
    draw_noise,
    drawing_from,
    drawn_by,
    normal_like,
    stratified,
    stratified_levels,
)
from gentext.core.model import Model, plain
from gentext.core.modes import (
    Precise,
    as_weights,
    at_least_single,
    evaluating,
    in_evaluation,
    plain_precision,
)
from gentext.core.wrapped import bare
