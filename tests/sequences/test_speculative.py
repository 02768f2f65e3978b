"""Speculative decoding: the distribution is the model's whatever the draft, by enumeration."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gentext.sequences import speculative
from gentext.sequences.gpt import GPT
from gentext.sequences.speculative import acceptance, residual
from tests.tiny_gpt import all_strings, close, make

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.equation("eq-gpt-specdec")
def test_accepting_or_replacing_gives_the_distribution_of_the_model() -> None:
    for p, q in (
        torch.randn(2, 6).softmax(-1),
        torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.3, 0.7]]),
        torch.tensor([[0.2, 0.8], [0.2, 0.8]]),
    ):
        keep = q * acceptance(p, q)
        close(keep + (1 - keep.sum()) * residual(p, q), p, 1e-13)
        close(keep.sum(), 1 - 0.5 * (p - q).abs().sum(), 1e-13)
        close(residual(p, q).sum(), torch.tensor(1.0), 1e-13)


@pytest.mark.equation("eq-gpt-specdec")
def test_drafted_text_has_the_distribution_of_the_model() -> None:
    small = {"vocab_size": 3, "heads": 1, "width": 8, "layers": 1, "context": 5, "bos": 0}
    model, draft = make(0.4, **small), GPT(**small)
    draft.load_state_dict({k: v + 0.2 * torch.randn_like(v) for k, v in model.state_dict().items()})
    prompt, rows, rounds, temperature = torch.tensor([[2]]), 3, 500, 0.7
    strings, counts, kept = all_strings(3, 3), torch.zeros(27), 0.0
    generator = torch.Generator().manual_seed(0)
    for _ in range(rounds):
        text, share = speculative.generate(
            model,
            draft,
            prompt.expand(rows, 1),
            3,
            ahead=2,
            temperature=temperature,
            generator=generator,
        )
        counts += torch.bincount((text[:, 1:] * torch.tensor([9, 3, 1])).sum(1), minlength=27)
        kept += share / rounds
    assert 0.3 < kept < 0.95  # both happened often
    full = torch.cat([torch.tensor([[0, 2]]).expand(27, 2), strings], dim=1)
    log_p = (model.logits(full[:, :-1])[:, 1:] / temperature).log_softmax(-1)
    p = log_p.gather(2, strings[..., None]).sum((1, 2)).exp().detach()
    close(p.sum(), torch.tensor(1.0))
    expected = p * rows * rounds
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert float(chi2) < 26 + 4 * math.sqrt(2 * 26)


def test_a_perfect_draft_is_always_kept() -> None:
    model = make()
    text, share = speculative.generate(model, model, torch.randint(11, (2, 2)), 5, ahead=3)
    assert text.shape == (2, 7)
    assert share == 1
    same, _ = speculative.generate(model, model, text, 0)
    assert (same == text).all()


def test_drafting_is_done_in_evaluation_mode_and_leaves_the_modes_as_they_were() -> None:
    """A part that is frozen in evaluation mode stays there while the rest is trained."""
    model, draft = make(dropout=0.5).train(), make(dropout=0.5)
    model.blocks[0].eval()
    prompt = torch.randint(11, (2, 2))

    def drawn() -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return speculative.generate(model, draft, prompt, 5, generator=generator)[0]

    before = [module.training for m in (model, draft) for module in m.modules()]
    in_training = drawn()
    assert [module.training for m in (model, draft) for module in m.modules()] == before
    model.eval()
    assert torch.equal(in_training, drawn())


@pytest.mark.equation("eq-gpt-specdec")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1e-4, 1e-40])
def test_near_temperature_zero_it_writes_the_most_probable_text(
    dtype: torch.dtype, temperature: float
) -> None:
    model, draft, prompt = make().to(dtype), make(0.3).to(dtype), torch.randint(11, (4, 2))
    text, _ = speculative.generate(model, draft, prompt, 5, temperature=temperature)
    assert text.equal(model.generate(prompt, 5, temperature=0.0))


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda m, x: speculative.generate(m, m, x, 5), "4 tokens"),
        (lambda m, x: speculative.generate(m, make(bos=2), x, 2), "same tokens"),
        (lambda m, x: speculative.generate(m, m, x, 2, ahead=0), "ahead=0"),
        (lambda m, x: speculative.generate(m, m, x, 2, temperature=0.0), "temperature=0.0"),
    ],
)
def test_bad_input_is_refused(use, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        use(make(), torch.zeros(1, 4, dtype=torch.long))
