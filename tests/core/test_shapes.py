"""The names of shapes: which tensors they are, letters meaning one size within a signature."""

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

from gentext.core import shapes

INTEGERS = torch.arange(6).reshape(2, 3)


@pytest.mark.parametrize(
    ("name", "fits", "others"),
    [
        ("Scalar", [torch.tensor(1.0)], [torch.ones(1), torch.tensor(1)]),
        ("PerExample", [torch.ones(3)], [torch.ones(3, 1), torch.arange(3)]),
        ("Batch", [torch.ones(2), torch.ones(2, 1, 4, 4), INTEGERS], [torch.tensor(1.0)]),
        ("Flat", [torch.ones(2, 3)], [torch.ones(2), torch.ones(2, 3, 4), INTEGERS]),
        ("Codes", [torch.ones(2, 3)], [torch.ones(2, 3, 4), INTEGERS]),
        ("Context", [torch.ones(2, 3)], [torch.ones(2), INTEGERS]),
        ("Labels", [torch.arange(3)], [torch.ones(3), INTEGERS]),
        ("Tokens", [INTEGERS, INTEGERS.int()], [INTEGERS.float(), torch.arange(3), INTEGERS > 0]),
        ("Logits", [torch.ones(2, 3, 4)], [torch.ones(2, 3)]),
    ],
)
def test_a_name_stands_for_a_kind_and_a_number_of_axes(name, fits, others):
    alias = getattr(shapes, name)
    assert all(isinstance(x, alias) for x in fits)
    assert not any(isinstance(x, alias) for x in others)


def test_a_letter_is_one_size_in_a_signature():
    @jaxtyped(typechecker=beartype)
    def log_prob(x: shapes.Batch, y: shapes.Labels) -> shapes.PerExample:
        return torch.zeros(len(y))

    assert log_prob(torch.ones(3, 2), torch.arange(3)).shape == (3,)
    with pytest.raises(TypeCheckError):
        log_prob(torch.ones(3, 2), torch.arange(2))
