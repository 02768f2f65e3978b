"""The two players of a GAN, built from their names and options.

Notation: as in ``gan_nets``, whose networks these are.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from gentext.adversarial import gan_nets as nets
from gentext.core import chosen
from gentext.core.signatures import keep_contract

NETS: dict[str, tuple[type[nets.Generator], type[nets.Critic]]] = {
    "mlp": (nets.MLPGenerator, nets.MLPCritic),
    "dcgan": (nets.ConvGenerator, nets.ConvCritic),
    "residual": (nets.ResidualGenerator, nets.ResidualCritic),
}


def players(
    generator: str | nn.Module,
    critic: str | nn.Module,
    *,
    shape: tuple[int, ...],
    latent: int,
    classes: int,
    options: Mapping[str, Any],
) -> tuple[Any, Any]:
    """Generator and critic; those given by name are built from what they take of ``options``.

    An option holds for both, or is a pair: the generator's and the critic's. Raises ValueError for
    an unknown name, and for options that neither of the two takes.
    """
    sizes: tuple[tuple[Any, ...], ...] = ((shape, latent, classes), (shape, classes))
    built: list[Any] = [generator, critic]
    known: set[str] = set()
    for place, role in enumerate(("generator", "critic")):
        if isinstance(built[place], nn.Module):
            continue
        make = chosen(role, built[place], NETS)[place]
        taken = _options(make)
        known |= taken
        own = {key: _own(key, value, place) for key, value in options.items() if key in taken}
        built[place] = make(*sizes[place], **own)
    if odd := sorted(options.keys() - known):
        raise ValueError(
            f"got {', '.join(odd)}; these networks take {', '.join(sorted(known)) or 'no options'}"
        )
    return built[0], built[1]


def _options(make: type[nn.Module]) -> set[str]:
    """The names of the keywords that a network takes."""
    signature = inspect.signature(make.__init__).parameters.values()
    return {p.name for p in signature if p.kind is p.KEYWORD_ONLY}


def _own(key: str, value: Any, place: int) -> Any:
    """The generator's (0) or the critic's (1) part of an option."""
    if key == "spectral":
        if not isinstance(value, bool):
            raise ValueError(f"got spectral={value!r}; it is True or False, of the critic")
        return value
    if not isinstance(value, Sequence) or isinstance(value, str):
        return value
    if len(value) != 2:
        raise ValueError(f"got {key}={value!r}; give a number, or a pair: generator and critic")
    return value[place]


keep_contract(globals())
