"""The chain rule by enumeration, and generation with and without a cache, token for token."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from gentext.core import Density, Samples
from gentext.sequences.autoregressive import (
    Autoregressive,
    bits_per_char,
    perplexity,
    stream_log_prob,
)

pytestmark = pytest.mark.usefixtures("float64")
V = 4


class Window(Autoregressive):
    """Sees everything up to ``context`` tokens, each with the weight of its place."""

    def __init__(self, *, context: int | None = 6, pad: int | None = None) -> None:
        super().__init__()
        self.vocab_size, self.bos, self.pad, self.context = V, 0, pad, context
        self.table = nn.Embedding(V, V)
        self.table.weight.data.mul_(2)
        self.place = nn.Parameter(torch.randn(64, V))

    def logits(self, tokens: Tensor) -> Tensor:
        return (self.table(tokens) * self.place[: tokens.shape[1]]).cumsum(1).sin() * 3

    def begin(self, n: int, capacity: int) -> tuple[Tensor, int]:
        return self.place.new_zeros(n, V), 0

    def step(self, token: Tensor, state: tuple[Tensor, int]) -> tuple[Tensor, tuple[Tensor, int]]:
        total, place = state
        total = total + self.table(token) * self.place[place]
        return total.sin() * 3, (total, place + 1)


def strings(length: int) -> Tensor:
    return torch.tensor(list(itertools.product(range(V), repeat=length)))


@pytest.mark.equation("eq-ar-chain")
def test_the_probabilities_of_all_strings_sum_to_one() -> None:
    model = Window()
    for length in (1, 3, 5):
        assert math.isclose(float(model.log_prob(strings(length)).exp().sum().detach()), 1.0)


@pytest.mark.equation("eq-ar-chain")
def test_one_pass_gives_what_going_step_by_step_does() -> None:
    model, x = Window(), strings(5)
    state, token, total = model.begin(len(x), 9), torch.zeros(len(x), dtype=torch.long), 0
    for t in range(5):
        logits, state = model.step(token, state)
        token = x[:, t]
        total = total + logits.log_softmax(-1).gather(1, token[:, None])[:, 0]
    torch.testing.assert_close(model.log_prob(x), total, rtol=0, atol=1e-12)
    torch.testing.assert_close(model.loss(x), -total.mean() / 5)
    assert isinstance(model, Density)
    assert isinstance(model, Samples)


def test_padding_counts_nothing() -> None:
    x = torch.tensor([[1, 2, 3, 3], [2, 1, 1, 2]])
    model = Window(pad=3)
    plain = Window()
    plain.load_state_dict(model.state_dict())
    expected = torch.stack([plain.log_prob(x[:1, :2])[0], plain.log_prob(x[1:])[0]])
    torch.testing.assert_close(model.log_prob(x), expected)
    torch.testing.assert_close(model.loss(x), -expected.sum() / 6)


@pytest.mark.parametrize("context", [6, 5, None])
@pytest.mark.parametrize("prompt", [0, 1, 4])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_generation_is_the_same_with_and_without_the_cache(context, prompt, temperature) -> None:
    model = Window(context=context)
    start = torch.randint(V, (3, prompt))
    drawn = [
        model.generate(
            start,
            30,
            temperature=temperature,
            cache=cache,
            generator=torch.Generator().manual_seed(0),
        )
        for cache in (True, False)
    ]
    assert drawn[0].shape == (3, prompt + 30)
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0][:, :prompt] == start).all()


def test_a_full_context_goes_on_with_bos_and_its_newer_half() -> None:
    model = Window(context=6)
    text = model.generate(torch.tensor([[1, 2, 3]]), 4, temperature=0.0)
    first = model.generate(torch.tensor([[1, 2, 3]]), 3, temperature=0.0)
    assert (text[:, :6] == first).all()
    # bos and five tokens fill the context; of the five the newer two stay, then comes the sixth.
    window = torch.cat([torch.zeros(1, 1, dtype=torch.long), first[:, 3:]], dim=1)
    assert int(text[0, 6]) == int(model.logits(window)[0, -1].argmax())


def test_generation_draws_from_the_model() -> None:
    model, n = Window(), 20_000
    drawn = model.sample(n, length=3, generator=torch.Generator().manual_seed(0))
    code = (drawn * torch.tensor([V * V, V, 1])).sum(1)
    p = model.log_prob(strings(3)).exp().detach()
    share = torch.bincount(code, minlength=V**3) / n
    assert ((share - p).abs() <= 4.5 * (p * (1 - p) / n).sqrt() + 1e-9).all()


def test_a_row_ends_at_the_stop_token_and_the_rest_go_on() -> None:
    model = Window(context=None)
    free = model.generate(
        torch.zeros(50, 0, dtype=torch.long), 12, generator=torch.Generator().manual_seed(3)
    )
    short = model.generate(
        torch.zeros(50, 0, dtype=torch.long), 12, stop=2, generator=torch.Generator().manual_seed(3)
    )
    for a, b in zip(free.tolist(), short.tolist(), strict=True):
        end = b.index(2) if 2 in b else len(b)
        assert set(b[end:]) <= {2}
        assert 2 not in b[:end]
        assert end > 0 or a[0] == 2
    assert model.training


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [
        (torch.zeros(1, 6, dtype=torch.long), {}, r"6 tokens.*at most 5.*\[:, -5:\]"),
        (torch.full((1, 2), V), {}, "tokens from 4 to 4.*0 to 3.*tokenizer"),
        (torch.full((1, 2), -1), {}, "tokens from -1"),
        (torch.zeros(3, dtype=torch.long), {}, r"shape \(3,\).*\(n, t\)"),
        (torch.zeros(1, 2, dtype=torch.long), {"temperature": -1.0}, "temperature=-1"),
        (torch.zeros(1, 2, dtype=torch.long), {"top_p": 0.0}, "top_p=0"),
        (torch.zeros(1, 2, dtype=torch.long), {"top_k": 0}, "top_k=0"),
    ],
)
def test_bad_prompts_and_options_are_refused(tokens, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        Window().generate(tokens, 3, **options)


def test_negative_lengths_and_floats_are_refused() -> None:
    with pytest.raises(ValueError, match="n=-1"):
        Window().generate(torch.zeros(1, 2, dtype=torch.long), -1)
    with pytest.raises(ValueError, match="integers"):
        Window().check_tokens(torch.zeros(1, 2))
    with pytest.raises(ValueError, match="at most 6"):
        Window().check(torch.zeros(1, 7, dtype=torch.long))


class Dropping(Window):
    """Drops tables out, in training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Sequential(self.table, nn.Dropout(0.5))


def test_texts_are_written_and_scored_in_evaluation_mode_which_is_left_as_it_was() -> None:
    """With a part that is kept in evaluation mode while the rest is trained."""
    model, stream = Dropping().eval(), torch.randint(V, (12,))

    def results() -> list[Tensor]:
        g = torch.Generator().manual_seed(0)
        return [model.generate(stream[None, :2], 9, generator=g), stream_log_prob(model, stream)]

    expected = results()
    model.train()
    model.table[0].eval()
    modes = [module.training for module in model.modules()]
    for found, value in zip(results(), expected, strict=True):
        assert torch.equal(found, value)
    assert [module.training for module in model.modules()] == modes


# --- units ---------------------------------------------------------------------------------------


@pytest.mark.equation("eq-ar-ppl")
def test_a_uniform_guess_among_fifty_has_perplexity_fifty() -> None:
    log_p = torch.tensor(-20 * math.log(50))
    assert math.isclose(float(perplexity(log_p, 20)), 50)
    assert math.isclose(float(bits_per_char(log_p, 20)), math.log2(50))


@pytest.mark.equation("eq-ar-ppl")
def test_bits_per_character_do_not_depend_on_the_tokens() -> None:
    """A chain over characters, and the same distribution over tokens of two characters each."""
    p = torch.rand(V, V).softmax(-1)
    text = torch.randint(V, (1, 8))
    single = p[text[0, :-1], text[0, 1:]].log().sum() + math.log(1 / V)
    double, before = torch.tensor(0.0), None
    for a, b in text.view(-1, 2).tolist():
        pair = (torch.full((V,), 1 / V) if before is None else p[before])[:, None] * p
        double, before = double + pair[a, b].log(), b
    torch.testing.assert_close(bits_per_char(single, 8), bits_per_char(double, 8))
    assert math.isclose(float(perplexity(double, 4)), float(perplexity(single, 8)) ** 2)


@pytest.mark.parametrize(("window", "stride"), [(5, 5), (5, 2), (4, 1), (6, 3)])
def test_a_long_text_is_scored_with_the_promised_context(window: int, stride: int) -> None:
    model, stream = Window(context=6), torch.randint(V, (23,))
    found = stream_log_prob(model, stream, window=window, stride=stride)
    assert len(found) == len(stream)
    for t in range(len(stream)):
        start = max(0, math.ceil((t - window + 1) / stride)) * stride
        exact = model.log_probs(stream[None, start : t + 1])[0, -1]
        torch.testing.assert_close(found[t], exact.detach())
    with pytest.raises(ValueError, match="stride=9"):
        stream_log_prob(model, stream, window=5, stride=9)
