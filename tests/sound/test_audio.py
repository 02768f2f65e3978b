"""Spectra against their definition, least squares, PyTorch's own transform, and librosa."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gentext.sound.audio import (
    LogMel,
    frame_count,
    griffin_lim,
    hertz_to_mel,
    istft,
    mel_filterbank,
    mel_to_hertz,
    overlap,
    spectral_distance,
    stft,
)

pytestmark = pytest.mark.usefixtures("float64")
SIZES = [(64, 16), (48, 16), (63, 9), (30, 5), (7, 1), (3, 1)]


def padded(x: Tensor, window: int, hop: int) -> Tensor:
    """With zeros around it, so that frames can be cut off from the beginning on."""
    before = window - hop
    return F.pad(x, (before, before + math.ceil(x.shape[-1] / hop) * hop - x.shape[-1]))


def by_hand(x: Tensor, window: int, hop: int) -> Tensor:
    """All N bins (frames, N) of one waveform, by PyTorch's own transform."""
    w = torch.hann_window(window)
    X = torch.stft(
        padded(x, window, hop), window, hop, window=w, center=False, return_complex=True,
        onesided=False,
    )  # fmt: skip
    return X.mT


def equal(a: Tensor, b: Tensor, to: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=to, atol=to)


@pytest.mark.equation("eq-audio-stft")
@pytest.mark.parametrize(("window", "hop"), SIZES)
def test_squared_windows_add_up_to_one_number(window: int, hop: int) -> None:
    w = 0.5 - 0.5 * torch.cos(2 * math.pi * torch.arange(window) / window)
    total = torch.zeros(5 * window)
    for start in range(0, 4 * window, hop):
        total[start : start + window] += w**2
    c = overlap(window, hop)
    assert c == pytest.approx(3 / 8 * window / hop, rel=1e-15)
    equal(total[window : 4 * window], torch.full((3 * window,), c))


@pytest.mark.equation("eq-audio-stft")
def test_known_sums_and_a_hop_where_there_is_none() -> None:
    assert overlap(64, 16) == 1.5
    assert overlap(48, 16) == 1.125
    halves = torch.hann_window(64).square().reshape(2, 32).sum(0)
    assert halves.max() - halves.min() > 0.4  # for N/R = 2 they do not add up
    with pytest.raises(ValueError, match=r"hop=32.*such as 16, 8, 4, 2, 1"):
        overlap(64, 32)


@pytest.mark.equation("eq-audio-stft")
@pytest.mark.parametrize(("window", "hop"), [(8, 2), (9, 3), (3, 1)])
def test_the_transform_is_the_sum_it_says(window: int, hop: int) -> None:
    x = torch.randn(2, 2 * window + 1)
    X = stft(x, window, hop)
    assert X.shape == (2, frame_count(x.shape[1], window, hop), window // 2 + 1)
    for i, m, k in itertools.product(*map(range, X.shape)):
        expected = 0j
        for n in range(window):
            t = m * hop - (window - hop) + n
            if 0 <= t < x.shape[1]:
                w = 0.5 - 0.5 * math.cos(2 * math.pi * n / window)
                turn = -2 * math.pi * k * n / window
                expected += w * float(x[i, t]) * complex(math.cos(turn), math.sin(turn))
        assert abs(complex(X[i, m, k]) - expected) < 1e-12


@pytest.mark.equation("eq-audio-stft")
@pytest.mark.parametrize(("window", "hop"), SIZES)
def test_the_inverse_gives_the_whole_waveform_whatever_its_length(window: int, hop: int) -> None:
    for length in range(window, window + 2 * hop + 1):
        x = torch.randn(2, length)
        X = stft(x, window, hop)
        equal(istft(X, window, hop, length), x)
        longest = istft(X, window, hop)
        equal(longest, F.pad(x, (0, -length % hop)))
        equal(X[1], by_hand(x[1], window, hop)[:, : window // 2 + 1])


@pytest.mark.equation("eq-audio-stft")
@pytest.mark.parametrize(("window", "hop"), SIZES)
def test_parseval(window: int, hop: int) -> None:
    x = torch.randn(200)
    energy = by_hand(x, window, hop).abs().square().sum()
    equal(energy, window * 3 / 8 * window / hop * x.square().sum(), 1e-11)
    X = stft(x, window, hop).abs().square()
    mirrored = X[:, 1 : (window + 1) // 2]
    equal(X.sum() + mirrored.sum(), energy, 1e-11)


@pytest.mark.equation("eq-audio-stft")
@pytest.mark.parametrize(("window", "hop"), [(8, 2), (9, 3)])
def test_of_what_is_no_transform_the_inverse_is_the_least_squares_solution(
    window: int, hop: int
) -> None:
    length = 2 * window + 1
    X = torch.randn(
        frame_count(length, window, hop), window // 2 + 1, dtype=torch.complex128
    )  # with imaginary parts at 0 and at N/2, which no waveform has
    x = istft(X, window, hop, length)
    columns = [by_hand(e, window, hop).flatten() for e in torch.eye(length)]
    S = torch.stack(columns, dim=1)
    above = X[:, 1 : (window + 1) // 2].conj().flip(1)
    whole = torch.cat([X, above], dim=1)
    rows, wanted = torch.view_as_real(S), torch.view_as_real(whole.flatten())
    A = torch.cat([rows[..., 0], rows[..., 1]])
    b = torch.cat([wanted[:, 0], wanted[:, 1]])
    equal(x, torch.linalg.lstsq(A, b[:, None]).solution[:, 0], 1e-10)


@pytest.mark.equation("eq-audio-stft")
def test_a_tone_in_a_bin_is_seen_there_and_in_its_neighbours() -> None:
    N, k = 64, 5
    x = torch.cos(2 * math.pi * k / N * torch.arange(4 * N) + 0.3)
    inside = stft(x, N, 16)[3:-3].abs()  # of frames that see no end
    expected = torch.zeros_like(inside)
    expected[:, k], expected[:, [k - 1, k + 1]] = N / 4, N / 8
    equal(inside, expected)


def test_gradients() -> None:
    x = torch.randn(2, 14, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: torch.view_as_real(stft(x, 9, 3)), x)
    X = stft(x, 9, 3).detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda X: istft(X, 9, 3, 14), X)
    features = LogMel(100, window=12, hop=3, n_mels=3)
    assert torch.autograd.gradcheck(features, x)


def test_silence_is_at_the_floor_and_has_a_gradient_of_zero() -> None:
    x = torch.zeros(100, requires_grad=True)
    loud = LogMel(100, window=24, hop=6, n_mels=4, floor=1e-3)(x)
    equal(loud, torch.full_like(loud, math.log(1e-3)))
    (gradient,) = torch.autograd.grad(loud.sum(), x)
    equal(gradient, torch.zeros(100))


@pytest.mark.equation("eq-audio-mel")
def test_the_scale_of_mel() -> None:
    f = torch.linspace(0, 8000, 101)
    m = hertz_to_mel(f)
    equal(m, 2595 * torch.log10(1 + f / 700), 1e-12)
    equal(mel_to_hertz(m), f, 1e-8)
    equal(hertz_to_mel(torch.tensor(1000.0)), torch.tensor(999.9855), 1e-6)
    equal(mel_to_hertz(torch.tensor(2595.0)), torch.tensor(6300.0))


@pytest.mark.equation("eq-audio-mel")
@pytest.mark.parametrize(("low", "high"), [(0, None), (60, 7600.0)])
def test_triangles_are_interpolations_and_sum_to_one_inside(low: float, high: float | None) -> None:
    filters = mel_filterbank(20, 1024, 16_000, low, high)
    f = np.arange(513) * 16_000 / 1024
    m = np.linspace(2595 * np.log10(1 + low / 700), 2595 * np.log10(1 + (high or 8000) / 700), 22)
    edges = 700 * (10 ** (m / 2595) - 1)
    for j, row in enumerate(filters):
        equal(row, torch.from_numpy(np.interp(f, edges[j : j + 3], [0, 1, 0])), 1e-11)
    total = filters.sum(0)[torch.from_numpy((f >= edges[1]) & (f <= edges[-2]))]
    assert len(total) > 400
    equal(total, torch.ones_like(total))


@pytest.mark.equation("eq-audio-mel")
@pytest.mark.parametrize(
    ("mels", "n_fft", "rate", "low", "high"),
    [(40, 256, 8000, 200, None), (23, 400, 16_000, 20.0, 7600.0), (1, 5, 10, 0, None)],
)
def test_triangles_are_those_of_librosa(mels, n_fft, rate, low, high) -> None:
    librosa = pytest.importorskip("librosa")
    theirs = librosa.filters.mel(
        sr=rate, n_fft=n_fft, n_mels=mels, fmin=low, fmax=high, htk=True, norm=None, dtype=float
    )
    equal(mel_filterbank(mels, n_fft, rate, low, high), torch.from_numpy(theirs), 1e-11)


def test_features_are_those_of_librosa() -> None:
    librosa = pytest.importorskip("librosa")
    x = torch.randn(2, 1003)
    theirs = librosa.feature.melspectrogram(
        y=padded(x, 128, 32).numpy(), sr=8000, n_fft=128, hop_length=32, center=False,
        n_mels=12, fmin=50, fmax=3800, htk=True, norm=None, power=2, dtype=float,
    )  # fmt: skip
    features = LogMel(8000, window=128, hop=32, n_mels=12, low=50, high=3800)
    equal(features(x), torch.from_numpy(theirs).log().mT, 1e-10)


def test_features_are_the_logarithm_of_what_the_triangles_add_up() -> None:
    x = torch.randn(3, 2, 500)
    features = LogMel(8000, window=128, hop=32, n_mels=12, floor=2.0)(x)
    power = by_hand(x[2, 1], 128, 32)[:, :65].abs().square()
    summed = torch.einsum("jk,mk->mj", mel_filterbank(12, 128, 8000), power)
    assert (summed < 2).any()
    equal(features[2, 1], summed.clamp(min=2).log())


def distance(x: Tensor, A: Tensor, window: int, hop: int) -> float:
    """Over all N bins, of which those above N/2 are written out."""
    above = A[:, 1 : (window + 1) // 2].flip(1)
    whole = torch.cat([A, above], dim=1)
    return float((by_hand(x, window, hop).abs() - whole).square().sum().sqrt())


@pytest.mark.equation("eq-audio-griffinlim")
@pytest.mark.parametrize(("window", "hop"), [(64, 16), (45, 15)])
@pytest.mark.parametrize("real", [True, False], ids=["of a waveform", "of none"])
def test_the_spectral_distance_never_grows(window: int, hop: int, real: bool) -> None:
    x = torch.randn(1000) * torch.linspace(0, 1, 1000)
    A = stft(x, window, hop).abs()
    A = A if real else torch.rand_like(A)
    distances = []
    for iterations in range(31):
        generator = torch.Generator().manual_seed(1)
        made = griffin_lim(A, window, hop, length=1000, iterations=iterations, generator=generator)
        distances.append(distance(made, A, window, hop))
    equal(spectral_distance(made, A, window, hop), torch.tensor(distances[-1]))
    assert all(b <= a + 1e-9 for a, b in itertools.pairwise(distances))
    assert distances[-1] < (0.5 if real else 0.9) * distances[0]


@pytest.mark.equation("eq-audio-griffinlim")
def test_one_iteration_is_the_two_projections_it_says() -> None:
    A = torch.rand(2, frame_count(200, 24, 6), 13)
    turns = torch.rand(A.shape, generator=torch.Generator().manual_seed(3))
    X = stft(istft(A * torch.exp(2j * math.pi * turns), 24, 6), 24, 6)
    expected = istft(A * X / X.abs(), 24, 6)
    made = griffin_lim(A, 24, 6, iterations=1, generator=torch.Generator().manual_seed(3))
    equal(made, expected, 1e-11)


def test_magnitudes_of_a_waveform_are_at_no_distance_and_silence_stays() -> None:
    x = torch.randn(3, 400)
    equal(spectral_distance(x, stft(x, 64, 16).abs(), 64, 16), torch.zeros(3), 1e-9)
    equal(griffin_lim(torch.zeros(9, 33), 64, 16), torch.zeros(96))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    x = torch.randn(400, dtype=torch.float64).to(dtype)
    X = stft(x, 64, 16)
    assert X.dtype == torch.complex64
    torch.testing.assert_close(X, stft(x.double(), 64, 16).to(X), rtol=1e-5, atol=1e-5)
    assert istft(X, 64, 16).dtype == torch.float32
    assert griffin_lim(X.abs().to(dtype), 64, 16, iterations=1).dtype == torch.float32
    features = LogMel(8000, window=64, hop=16, n_mels=9, low=200).to(dtype)
    exact = LogMel(8000, window=64, hop=16, n_mels=9, low=200)(x.double())
    torch.testing.assert_close(features(x), exact.float(), rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(features(x), exact.float(), rtol=1e-4, atol=1e-4)


COMPILED = """
import torch
from gentext.sound.audio import LogMel, griffin_lim, istft, spectral_distance, stft
torch.set_default_dtype(torch.float64)
features = LogMel(8000, window=64, hop=16, n_mels=9, low=200)
def everything(x):
    X = stft(x, 64, 16)
    made = griffin_lim(X.abs(), 64, 16, iterations=1)
    return istft(X, 64, 16, 100), features(x), spectral_distance(made, X.abs(), 64, 16)
x, parts = torch.randn(2, 100), []
for f in (everything, torch.compile(everything, backend="aot_eager", fullgraph=True)):
    torch.manual_seed(1)
    parts.append(f(x))
torch.testing.assert_close(*parts)
"""


def test_compiled_whole_it_gives_the_same() -> None:
    """In a process of its own, where no shapes are checked at run time."""
    subprocess.run([sys.executable, "-c", COMPILED], check=True)


GOOD = torch.zeros(100)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stft(torch.zeros(16_000, 2)), r"\(16000, 2\).*last axis is time.*512"),
        (lambda: stft(torch.zeros(511)), "at least one window"),
        (lambda: stft(torch.zeros(0, 600)), "last axis is time"),
        (lambda: stft(torch.zeros(600).int()), "int32"),
        (lambda: stft(torch.zeros(600) * math.nan), "samples that are NaN"),
        (lambda: stft(torch.full((600,), 1e13)), "samples that are NaN or above 1e[+]12"),
        (lambda: stft(torch.zeros(600), 256, 257), "hop=257, longer than window=256"),
        (lambda: stft(torch.zeros(600), 400, 160), "divides 400 .* such as 100, 80, 50, 40, 25"),
        (lambda: stft(torch.zeros(600), 2, 1), "window must be a whole number, at least 3"),
        (lambda: frame_count(63, 64, 16), "samples"),
        (lambda: istft(torch.zeros(9, 33), 64, 16), "griffin_lim"),
        (lambda: istft(torch.zeros(9, 32) + 0j, 64, 16), r"\(9, 32\).*frames, 33"),
        (lambda: istft(torch.zeros(6, 33) + 0j, 64, 16), "at least 7 frames"),
        (lambda: istft(torch.zeros(9, 33) + 0j, 64, 16, 80), "9 frames are of 81 to 96"),
        (lambda: istft(torch.zeros(9, 33) + 0j, 64, 16, 97), "9 frames are of 81 to 96"),
        (lambda: istft(torch.zeros(9, 33) * 1j * math.nan, 64, 16), "X that are NaN"),
        (lambda: griffin_lim(-torch.ones(9, 33), 64, 16), "magnitudes below 0"),
        (lambda: griffin_lim(torch.ones(9, 33) + 0j, 64, 16), "magnitudes of torch.complex128"),
        (lambda: griffin_lim(torch.ones(9, 33), 64, 16, iterations=-1), "iterations"),
        (lambda: spectral_distance(GOOD, torch.ones(9, 33), 64, 16), r"has \(10, 33\)"),
        (lambda: hertz_to_mel(-GOOD - 1), "f below 0"),
        (lambda: mel_filterbank(80, 256, 16_000), "n_mels=80.*choose fewer, or a longer n_fft"),
        (lambda: mel_filterbank(9, 256, 8000, 0, 5000), "high must be"),
        (lambda: mel_filterbank(9, 256, 8000, 400, 300), "high must be"),
        (lambda: mel_filterbank(9, 256, 8000, 4000), "low must be"),
        (lambda: LogMel(8000, floor=0), "floor must be at least 1e-37"),
        (lambda: LogMel(8000, window=64, hop=16, n_mels=4)(GOOD, rate=16_000), "resample"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_features_know_their_settings() -> None:
    settings = {"window": 64, "hop": 16, "n_mels": 9, "low": 200, "high": 3000.0, "floor": 1e-6}
    features = LogMel(8000, **settings)
    assert features.state_dict() == {}
    shown = eval(repr(features), {"LogMel": LogMel})
    assert {name: getattr(shown, name) for name in settings} == settings
    equal(shown(GOOD, rate=8000), features(GOOD))
