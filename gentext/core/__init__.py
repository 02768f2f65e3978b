"""The contract that all families share: models, capabilities, shapes, checks."""

from gentext.core.capabilities import Bound, Density, Encodes, Samples
from gentext.core.checks import (
    check_count,
    check_examples,
    check_grey_levels,
    check_labels,
    numbers,
)
from gentext.core.model import Model
from gentext.core.modes import at_least_single, plain_precision

__all__ = [
    "Bound",
    "Density",
    "Encodes",
    "Model",
    "Samples",
    "at_least_single",
    "check_count",
    "check_examples",
    "check_grey_levels",
    "check_labels",
    "numbers",
    "plain_precision",
]
