"""Networks of a GAN that are given by name, and what each takes of the options."""

from __future__ import annotations

import math
from typing import Any

import pytest
from torch import nn

from gentext.adversarial.gan import GAN, ImageGAN
from gentext.adversarial.players import NETS, players


def small(**options: Any) -> GAN:
    return GAN(**{"shape": (2,), "latent": 3, "hidden": 16, "layers": 2} | options)


def test_networks_of_two_kinds_take_their_own_options() -> None:
    gan = ImageGAN(shape=(1, 8, 8), latent=3, generator="mlp", critic="dcgan", hidden=5, channels=8)
    assert gan.generator.body[0].out_features == 5
    assert gan.critic.features[0].out_channels == 8


def test_an_option_is_of_both_or_a_pair() -> None:
    one, pair = small(hidden=5), small(hidden=(5, 7), layers=(1, 3))
    assert one.generator.body[0].out_features == one.critic.features[1].out_features == 5
    assert pair.generator.body[0].out_features == 5
    assert pair.critic.features[1].out_features == 7
    depths = [
        sum(isinstance(m, nn.Linear) for m in net.modules()) - 1
        for net in (pair.generator, pair.critic)
    ]
    assert depths == [1, 3]


@pytest.mark.parametrize("name", NETS)
def test_names_stand_for_their_classes_and_networks_stay_as_given(name: str) -> None:
    given = nn.Linear(4, 1)
    how: dict[str, Any] = {"shape": (1, 8, 8), "latent": 4, "classes": 0, "options": {}}
    generator, critic = players(name, given, **how)
    assert type(generator) is NETS[name][0]
    assert critic is given
    generator, critic = players(given, name, **how)
    assert generator is given
    assert type(critic) is NETS[name][1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generator": "unet"}, r"generator 'unet'.*dcgan"),
        ({"critic": "unet"}, r"critic 'unet'.*residual"),
        ({"critic": "dcgn"}, r"critic 'dcgn': did you mean 'dcgan'"),
        ({"hidden": 0}, r"hidden=0"),
        ({"hidden": (8, 8, 8)}, r"hidden=\(8, 8, 8\).*a pair"),
        ({"hiden": 8}, r"got hiden; .*frequencies, hidden, layers, spectral"),
        ({"spectral": (True, False)}, r"spectral=\(True, False\).*of the critic"),
        ({"critic": nn.Linear(2, 1), "spectral": True}, r"got spectral; .*hidden"),
        ({"generator": nn.Linear(3, 2), "critic": nn.Linear(2, 1)}, r"hidden, layers.*no options"),
        ({"frequencies": math.inf}, r"frequencies=inf"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)
