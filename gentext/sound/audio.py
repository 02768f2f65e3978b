"""Sound in time and frequency: the short-time Fourier transform, its inverse, mel, Griffin–Lim.

Notation: ``x`` a waveform (..., samples), batch axes first; N = ``window`` and R = ``hop``, in
samples; w[n] = ½ − ½ cos(2πn/N), the periodic Hann window, n = 0 to N − 1; X[m, k] = Σ_n w[n]
x_m[n] e^{−2πikn/N} of frame m, which begins at sample mR − (N − R), in bin k = 0 to ⌊N/2⌋, at
k/N times the rate; A magnitudes abs(X).

Before and after the waveform are zeros, N − R of them and as many more as make the frames whole, so
that each sample lies in N/R frames. Where R divides N three times or more, Σ_m w²[n − mR] is one
number c for all samples: the transform is √c times an isometry, and its inverse adds up frames.

Source: Griffin and Lim, IEEE Transactions on Acoustics, Speech, and Signal Processing, 1984.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float, Num
from torch import Tensor

from gentext.core import (
    Precise,
    at_hand,
    at_least_single,
    check_count,
    check_number,
    check_tensor,
    drawn_by,
    plain_precision,
)
from gentext.core.signatures import keep_contract

Waveform = Num[Tensor, "*batch samples"]  # floating-point, as is looked at by each function
Spectrum = Complex[Tensor, "*batch frames bins"]
Bins = Num[Tensor, "*batch frames bins"]

LONGEST = 2**16  # samples of a window
LOUDEST, STRONGEST = 1e12, 1e18  # samples and bins, of which single precision holds the powers
LEAST_FLOOR = 1e-37  # about the least number that single precision holds with all its digits


def overlap(window: int, hop: int) -> float:
    """c = Σ_m w²[n − mR] = 3/8 N/R, the same for every n: what frames add up to.

    Raises ValueError where it is not the same: R must divide N, three times or more.

    Equation: :eq:`eq-audio-stft`
    """
    check_count("window", window, 3)
    check_number("window", window, most=LONGEST)
    check_count("hop", hop)
    if hop > window:
        raise ValueError(f"got hop={hop}, longer than window={window}: samples would be left out")
    if window % hop or window < 3 * hop:
        hops = [r for r in range(window // 3, 0, -1) if window % r == 0]
        some = ", ".join(map(str, hops[:6]))
        raise ValueError(
            f"got hop={hop}, at which the squares of a Hann window of {window} samples do not add "
            f"up to one number: choose a hop that divides {window} three times or more, such as "
            f"{some}"
        )
    return 3 / 8 * window / hop


def frame_count(samples: int, window: int = 512, hop: int = 128) -> int:
    """How many frames a waveform has: ⌈samples/R⌉ + N/R − 1."""
    overlap(window, hop)
    check_count("samples", samples, window)
    return -(-samples // hop) + window // hop - 1


def stft(x: Waveform, window: int = 512, hop: int = 128) -> Spectrum:
    """X[m, k] = Σ_n w[n] x_m[n] e^{−2πikn/N}: which frequencies a waveform has, and when.

    By Parseval, Σ_m Σ_k abs(X[m, k])² = N c Σ_n x²[n], where k runs over all N bins.

    Arguments:
        x: waveforms of one window at least; window, hop: N and R, in samples (see ``overlap``).

    Equation: :eq:`eq-audio-stft`
    """
    overlap(window, hop)
    return _transform(_checked(x, window), window, hop)


def istft(X: Bins, window: int = 512, hop: int = 128, length: int | None = None) -> Waveform:
    """x[n] = 1/c Σ_m w[n − mR] x_m[n − mR], the inverse of ``stft``.

    Of an X that no waveform has, it is the waveform whose transform is nearest, by squares.

    Arguments:
        X: spectra (..., frames, bins).
        length: the number of samples, which is known of X but for R; None: the largest.

    Equation: :eq:`eq-audio-stft`
    """
    overlap(window, hop)
    check_tensor(X, "X")
    if not X.is_complex():
        raise ValueError(f"got X of {X.dtype}; give complex numbers, or magnitudes to griffin_lim")
    length = _length(X, window, hop, length)
    X = at_least_single(X)
    _check_size(X, "X", STRONGEST)
    return _inverse(X, window, hop, length)


def griffin_lim(
    magnitudes: Bins,
    window: int = 512,
    hop: int = 128,
    *,
    length: int | None = None,
    iterations: int = 32,
    generator: torch.Generator | None = None,
) -> Waveform:
    """A waveform whose transform has about these magnitudes A, from random phases on.

    x becomes the inverse of A e^{i arg X}, X the transform of x before: what is nearest with these
    magnitudes, then what is nearest among transforms. ``spectral_distance`` never grows by it.

    Arguments:
        magnitudes: A (..., frames, bins), not below 0; window, hop, length: as for ``istft``.
        iterations: how often.

    Equation: :eq:`eq-audio-griffinlim`
    """
    overlap(window, hop)
    check_count("iterations", iterations, 0)
    A = _checked_magnitudes(magnitudes)
    n = _length(A, window, hop, length)
    turns = torch.rand(A.shape, dtype=A.dtype, device=A.device, **drawn_by(generator))
    x = _inverse(torch.polar(A, 2 * math.pi * turns), window, hop, n)
    for _ in range(iterations):
        x = _inverse(torch.polar(A, _transform(x, window, hop).angle()), window, hop, n)
    return x


def spectral_distance(
    x: Waveform, magnitudes: Bins, window: int = 512, hop: int = 128
) -> Float[Tensor, "*batch"]:
    """‖abs(X) − A‖ of the transform X of ``x`` over all frames and all N bins.

    Equation: :eq:`eq-audio-griffinlim`
    """
    X, A = stft(x, window, hop), _checked_magnitudes(magnitudes)
    if X.shape != A.shape:
        raise ValueError(
            f"got magnitudes of shape {tuple(A.shape)}, but the transform of x has "
            f"{tuple(X.shape)}: give those of as many samples, by the same window and hop"
        )
    off = X.abs() - A
    mirrored = off[..., 1 : (window + 1) // 2]  # the bins above N/2 are as those below
    return torch.linalg.vector_norm(torch.cat([off, mirrored], -1), dim=(-2, -1))


def hertz_to_mel(f: Tensor) -> Tensor:
    """m = 2595 log10(1 + f/700): a scale on which equal steps sound about alike.

    Equation: :eq:`eq-audio-mel`
    """
    return 2595 / math.log(10) * torch.log1p(_not_negative(f, "f") / 700)


def mel_to_hertz(m: Tensor) -> Tensor:
    """f = 700 (10^{m/2595} − 1), the inverse of ``hertz_to_mel``.

    Equation: :eq:`eq-audio-mel`
    """
    return 700 * torch.expm1(_not_negative(m, "m") * (math.log(10) / 2595))


def mel_filterbank(
    n_mels: int,
    n_fft: int,
    rate: float | int,
    low: float | int = 0,
    high: float | int | None = None,
) -> Float[Tensor, "mels bins"]:
    """Triangles over the bins of a transform, at even steps of mel; each begins and ends at the
    centres of its neighbours, so that between the first centre and the last they sum to 1.

    Arguments:
        n_mels: how many; n_fft: N of the transform, whose bins are at k rate/N hertz.
        low, high: where the first begins and the last ends, in hertz; None: at half of the rate.

    Raises ValueError where a triangle is so narrow that no bin lies in it.

    Equation: :eq:`eq-audio-mel`
    """
    low, high = _band(n_mels, n_fft, rate, low, high)
    ends = hertz_to_mel(torch.tensor([low, high], dtype=torch.float64))
    steps = torch.linspace(0, 1, n_mels + 2, dtype=torch.float64)
    edges = mel_to_hertz(torch.lerp(ends[0], ends[1], steps))[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    f = torch.arange(n_fft // 2 + 1) * (rate / n_fft)
    triangles = torch.minimum((f - left) / (centre - left), (right - f) / (right - centre))
    if at_hand(triangles) and not (triangles > 0).any(1).all():
        raise ValueError(
            f"got n_mels={n_mels}, but with n_fft={n_fft} at {rate} Hz some triangles are narrower "
            "than the bins: choose fewer, or a longer n_fft"
        )
    return triangles.clamp_min(0).to(torch.get_default_dtype())


class LogMel(Precise):
    """log max(Σ_k F[j, k] abs(X[m, k])², floor) of waveforms, in nats, F the triangles of mel.

    Arguments:
        rate: of the waveforms, in hertz; window, hop: as for ``stft``, in samples.
        n_mels, low, high: as for ``mel_filterbank``.
        floor: of the power, which silence has; where it is at the floor, there is no gradient.
    """

    filters: Tensor

    def __init__(
        self,
        rate: int,
        *,
        window: int = 512,
        hop: int = 128,
        n_mels: int = 40,
        low: float | int = 0,
        high: float | int | None = None,
        floor: float | int = 1e-10,
    ) -> None:
        super().__init__()
        overlap(window, hop)
        check_number("floor", floor, least=LEAST_FLOOR)
        filters = mel_filterbank(n_mels, window, rate, low, high)
        self.rate, self.window, self.hop, self.n_mels = rate, window, hop, n_mels
        self.low, self.high, self.floor = low, high, floor
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, x: Waveform, rate: int | None = None) -> Float[Tensor, "*batch frames mels"]:
        """Of waveforms of one window at least; ValueError where ``rate`` is given and another."""
        if rate is not None and rate != self.rate:
            raise ValueError(
                f"got a waveform at rate={rate} Hz, but these are features at {self.rate} Hz: "
                f"waveforms.resample(x, {rate}, {self.rate})"
            )
        X = stft(x, self.window, self.hop)
        with plain_precision(x):
            power = X.real.square() + X.imag.square()
            return (power @ self.filters.to(power).mT).clamp_min(self.floor).log()

    def extra_repr(self) -> str:
        """The settings, as they are given to the constructor."""
        names = ("rate", "window", "hop", "n_mels", "low", "high", "floor")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


def _transform(x: Tensor, window: int, hop: int) -> Tensor:
    """X of a waveform that was found right."""
    before = window - hop
    padded = F.pad(x, (before, before + -x.shape[-1] % hop))
    return torch.fft.rfft(padded.unfold(-1, window, hop) * _hann(window, x))


def _inverse(X: Tensor, window: int, hop: int, length: int) -> Tensor:
    """1/c of the sum of the frames, each times w, without what lies before and after."""
    frames = torch.fft.irfft(X, n=window)
    frames = frames * _hann(window, frames)
    rows = frames.reshape(-1, *frames.shape[-2:])
    whole = (X.shape[-2] - 1) * hop + window
    added = F.fold(rows.mT, (1, whole), (1, window), stride=(1, hop)).reshape(*X.shape[:-2], whole)
    before = window - hop
    return added[..., before : before + length] / overlap(window, hop)


def _hann(window: int, like: Tensor) -> Tensor:
    return torch.hann_window(window, dtype=like.dtype, device=like.device)


def _checked(x: Tensor, window: int) -> Tensor:
    """A waveform in single precision at least."""
    check_tensor(x, "x")
    if not x.is_floating_point():
        raise ValueError(f"got samples of {x.dtype}; scale them into [-1, 1] as floating-point")
    if not x.ndim or x.shape[-1] < window or not x.numel():
        raise ValueError(
            f"got x of shape {tuple(x.shape)}, but its last axis is time, of at least one window "
            f"of {window} samples: put channels first, or add zeros at the end"
        )
    x = at_least_single(x)
    _check_size(x, "samples", LOUDEST)
    return x


def _checked_magnitudes(magnitudes: Tensor) -> Tensor:
    """Magnitudes in single precision at least."""
    check_tensor(magnitudes, "magnitudes")
    if not magnitudes.is_floating_point():
        raise ValueError(f"got magnitudes of {magnitudes.dtype}; give floats, such as X.abs()")
    A = at_least_single(_not_negative(magnitudes, "magnitudes"))
    _check_size(A, "magnitudes", STRONGEST)
    return A


def _length(X: Tensor, window: int, hop: int, length: int | None) -> int:
    """How many samples ``X`` is of; ValueError where it is not a transform by N and R."""
    least, bins = 2 * window // hop - 1, window // 2 + 1
    if X.ndim < 2 or X.shape[-1] != bins or X.shape[-2] < least or not X.numel():
        raise ValueError(
            f"got a transform of shape {tuple(X.shape)}, but with window={window} and hop={hop} it "
            f"is (..., frames, {bins}), of at least {least} frames: give those of its stft"
        )
    longest = (X.shape[-2] - window // hop + 1) * hop
    shortest = max(window, longest - hop + 1)
    if length is not None and not shortest <= length <= longest:
        raise ValueError(
            f"got length={length}, but {X.shape[-2]} frames are of {shortest} to {longest} samples"
        )
    return longest if length is None else length


def _check_size(values: Tensor, what: str, most: float) -> None:
    """Raise ValueError for NaN, and for values whose powers would be infinite."""
    if at_hand(values) and not bool(values.detach().abs().max() <= most):
        raise ValueError(f"got {what} that are NaN or above {most:g}; scale waveforms into [-1, 1]")


def _not_negative(values: Tensor, what: str) -> Tensor:
    check_tensor(values, what)
    if at_hand(values) and values.numel() and not bool((values >= 0).all()):
        raise ValueError(f"got {what} below 0 or NaN; give numbers from 0 on")
    return values


def _band(
    n_mels: int, n_fft: int, rate: float | int, low: float | int, high: float | int | None
) -> tuple[float, float]:
    """From where to where in hertz, of settings that were found right."""
    check_count("n_fft", n_fft, 2)
    check_number("n_fft", n_fft, most=LONGEST)
    check_count("n_mels", n_mels)
    check_number("n_mels", n_mels, most=n_fft // 2 + 1)
    check_number("rate", rate, above=0)
    check_number("low", low, least=0, below=rate / 2)
    high = rate / 2 if high is None else high
    check_number("high", high, above=low, most=rate / 2)
    return float(low), float(high)


keep_contract(globals())
