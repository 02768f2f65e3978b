"""Capabilities: a protocol holds for exactly the models that have its methods."""

import pytest
import torch

import gentext as gt
from gentext import core

PROTOCOLS = {
    "Samples": ("sample",),
    "Density": ("log_prob",),
    "Bound": ("elbo",),
    "Encodes": ("encode",),
    "Represents": ("represent", "backbone"),
    "OfShape": ("shape",),
    "OfTokens": ("vocab_size", "pad"),
    "Generates": ("generate", "vocab_size"),
    "Translates": ("translate",),
    "Classifies": ("accuracy", "classes"),
    "PseudoDensity": ("pseudo_log_prob",),
}
MODELS = {
    "VAE": (lambda: gt.VAE(shape=(2,), latent=1), "Samples Bound Encodes Represents OfShape"),
    "RealNVP": (lambda: gt.RealNVP(features=2), "Samples Density Encodes"),
    "RecurrentLM": (
        lambda: gt.RecurrentLM(vocab_size=5, hidden=2),
        "Samples Density Generates OfTokens",
    ),
    "BERT": (
        lambda: gt.BERT(vocab_size=6, context=4, width=4, heads=1),
        "Encodes Represents PseudoDensity OfTokens",
    ),
    "Classifier": (
        lambda: gt.Classifier(shape=(1, 8, 8), classes=2),
        "Encodes Represents Classifies OfShape",
    ),
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_capability_is_having_all_of_its_parts(name):
    protocol, parts = getattr(core, name), PROTOCOLS[name]
    whole = type("Whole", (), dict.fromkeys(parts, lambda self: None))
    assert isinstance(whole(), protocol)
    for missing in parts:
        rest = {part: lambda self: None for part in parts if part != missing}
        assert not isinstance(type("Part", (), rest)(), protocol)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_the_capabilities_that_can_be_computed(name):
    torch.manual_seed(0)
    make, expected = MODELS[name]
    model = make()
    assert {p for p in PROTOCOLS if isinstance(model, getattr(core, p))} == set(expected.split())


def test_options_of_sampling_are_its_own_and_those_of_what_it_hands_them_to():
    class Inner:
        def sample(self, n, *, steps=1, generator=None):
            """Takes steps."""

    class Outer(Inner):
        def sample(self, n, *, mean=False, generator=None, **how):
            """Takes what is taken inside."""

        @property
        def sample_options(self):
            return core.heeded(self, Inner())

    assert core.sample_options(Inner()) == ("n", "steps", "generator")
    assert core.sample_options(Outer()) == ("n", "mean", "generator", "how", "steps")
    assert core.heeded(Inner(), Outer()) == ("n", "steps", "generator", "mean", "how")
