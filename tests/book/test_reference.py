"""The reference shows how classes are really called."""

import inspect
import re

import pytest

from book.extensions.reference import show_constructor
from gentext import IWAE, VAE, Diffusion, TrainConfig


def shown(kind):
    return show_constructor(None, "class", kind.__name__, kind, None, "(*args)", None)


@pytest.mark.parametrize("kind", [VAE, IWAE, Diffusion])
def test_a_model_is_shown_by_its_constructor(kind):
    signature, returned = shown(kind)
    assert returned is None
    names = re.findall(r"(\w+)(?==|,|\))", re.sub(r"=[^,)]*", "=", signature))
    assert names == list(inspect.signature(kind).parameters)
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.default is not parameter.empty:
            assert f"{name}={parameter.default!r}" in signature


def test_other_classes_and_functions_are_left_to_sphinx():
    assert shown(TrainConfig) is None
    assert show_constructor(None, "method", "encode", VAE.encode, None, "(x)", None) is None
