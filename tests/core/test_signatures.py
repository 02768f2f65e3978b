"""Refusals by the name of the argument, and nothing else for calls that work."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from gentext.core.signatures import keep_contract
from gentext.denoising.dit import patchify
from gentext.flows.ode import solve
from gentext.sequences.attention import rotate
from tests.sweep.subjects import modules

Rows = Float[Tensor, "n d"]


def repeated(x: Rows, y: Float[Tensor, "n"], times: int, scale: float) -> Tensor:
    """(x + y) scale, ``times`` times."""
    return torch.cat([(x + y[:, None]) * scale] * times)


def sizes_of(hidden: Sequence[int], name: str = "a") -> tuple[int, ...]:
    """The sizes."""
    return tuple(hidden)


def applied(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """f(x)."""
    return f(x)


def rows_of(x: Float[Tensor, "n d"]) -> Iterator[Tensor]:
    """The rows of x, each by the first column."""
    yield from x @ x[:1].mT


keep_contract(globals())
X, Y = torch.ones(3, 2, dtype=torch.float64), torch.ones(3, dtype=torch.float64)


@pytest.mark.parametrize("times", [2.5, True, "2", None, 2**63, float("nan"), np.float64(2.5)])
def test_what_is_no_whole_number_is_refused_by_name(times: object) -> None:
    with pytest.raises(ValueError, match=r"got times=.*times must be a whole number"):
        repeated(X, Y, times, 1.0)


@pytest.mark.parametrize("scale", ["1", 1j, [1.0], None, True])
def test_what_is_no_number_is_refused_by_name(scale: object) -> None:
    with pytest.raises(ValueError, match="scale must be a number"):
        repeated(X, Y, 2, scale)


def test_complex_tensors_are_refused_where_real_ones_are_meant() -> None:
    """PyTorch lets some of them through, with their imaginary part cut off."""
    with pytest.raises(
        ValueError, match=r"got x=complex64 \(3, 2\); x must be a tensor of floating"
    ):
        repeated(X.to(torch.complex64), Y, 2, 1.0)


def test_numbers_of_numpy_and_tensors_become_those_of_python() -> None:
    sizes = sizes_of(np.array([2, 3]))
    assert sizes == (2, 3)
    assert {type(size) for size in sizes} == {int}
    plain = repeated(X, Y, 2, 0.5)
    assert torch.equal(repeated(X, Y, np.int32(2), np.float64(0.5)), plain)
    assert torch.equal(repeated(X, Y, torch.tensor(2), torch.tensor(0.5)), plain)


def test_a_sequence_is_looked_at_inside() -> None:
    with pytest.raises(ValueError, match=r"got hidden=\(2, 2.5\)"):
        sizes_of((2, 2.5))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="name must be a string"):
        sizes_of((2,), name=3)  # type: ignore[arg-type]


def test_the_tensor_that_does_not_fit_is_named_with_what_its_letters_mean() -> None:
    with pytest.raises(
        ValueError, match=r"got y=float64 \(2,\); y must be .*floating-point, \(n\)"
    ):
        repeated(X, Y[:2], 2, 1.0)
    with pytest.raises(ValueError, match=r"x must be a tensor .*: torch.as_tensor\(x\)"):
        repeated(X.numpy(), Y, 2, 1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"got x=float32 \(3, 2\).*p"):
        patchify(torch.ones(3, 2), 2)
    with pytest.raises(ValueError, match=r"rotate got x=.*, positions=.*do not fit one another"):
        rotate(torch.ones(3, 4), torch.ones(5))


def test_an_iterator_refuses_in_the_same_words() -> None:
    rows = rows_of([1.0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"got x="):
        list(rows)


def test_errors_of_what_a_caller_wrote_stay_what_they_are() -> None:
    def broken(x: Tensor) -> Tensor:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        applied(broken, X)


@pytest.mark.parametrize(
    ("file", "module"),
    [
        ("<ipython-input-1>", "__main__"),  # typed into a session
        (str(Path(sys.base_prefix) / "src" / "app.py"), "app"),  # beside the libraries
    ],
)
def test_code_of_a_caller_is_known_wherever_it_stands(file: str, module: str) -> None:
    names = {"__name__": module}
    exec(compile("def broken(x, t): raise KeyError('mine')", file, "exec"), names)
    with pytest.raises(KeyError, match="mine"):
        solve(names["broken"], X, 0.0, 1.0, 2, "euler")  # type: ignore[arg-type]


def test_python_itself_speaks_of_missing_and_unknown_arguments() -> None:
    with pytest.raises(TypeError, match=r"repeated\(\) missing"):
        repeated(X, Y, 2)  # type: ignore[call-arg]


def test_transforms_of_torch_go_through() -> None:
    gradient = torch.func.grad(lambda x: repeated(x, Y, 1, 3.0).sum())(X)
    assert torch.equal(gradient, torch.full_like(X, 3))
    many = torch.func.vmap(lambda x: repeated(x, Y, 1, 3.0))(X[None].repeat(4, 1, 1))
    assert many.shape == (4, 3, 2)
    compiled = torch.compile(repeated, backend="eager", fullgraph=True)
    assert torch.equal(compiled(X, Y, 2, 3.0), repeated(X, Y, 2, 3.0))


def test_name_signature_and_copies_stay() -> None:
    assert copy.deepcopy(repeated) is repeated
    assert f"{repeated.__module__}.{repeated.__qualname__}" == f"{__name__}.repeated"
    assert list(inspect.signature(repeated).parameters) == ["x", "y", "times", "scale"]


def test_only_calls_from_outside_are_looked_at() -> None:
    inner = applied(lambda x: repeated(x, Y, True, 1.0), X)  # which from outside is refused
    assert torch.equal(inner, X + 1)
    with pytest.raises(ZeroDivisionError):
        applied(lambda x: x / (1 // 0), X)
    with pytest.raises(ValueError, match="got times=True"):  # also after an error inside
        repeated(X, Y, True, 1.0)


def test_every_public_module_keeps_the_contract() -> None:
    without = [
        module.__name__
        for module in modules()
        if any(getattr(own, "__module__", "") == module.__name__ for own in vars(module).values())
        and not hasattr(module, "__path__")
        and not inspect.getsource(module).endswith("\nkeep_contract(globals())\n")
    ]
    assert without == []
