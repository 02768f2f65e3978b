"""Pre-training of an encoder of speech, without transcripts: hidden frames are filled in.

Spans of frames are hidden, and the encoder fills them in from those on both sides. The loss is a
squared error of log-mel frames, so what is filled in is a mean of what could be there: no sample of
it. This is the idea of wav2vec 2.0 and HuBERT in its simplest form, as Mockingjay has it: wav2vec
2.0 tells the unit that was hidden from others by a contrastive loss, and HuBERT predicts the number
of its cluster. Both are Transformers on waveforms, and a thousand times as large as what is here.

Notation: ``x`` (n, t, mels) log-mel features of ``lengths`` (n,) frames, standardised; M the hidden
frames, (n, t), a share ``rate`` of all, in spans of ``span`` frames.

Source: Liu et al., ICASSP 2020 (Mockingjay); Baevski et al., NeurIPS 2020 (wav2vec 2.0); Hsu et
al., 2021 (HuBERT).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from gentext.core import (
    Model,
    at_least_single,
    check_count,
    check_number,
    drawn_by,
    in_evaluation,
)
from gentext.core.shapes import Scalar
from gentext.core.signatures import keep_contract
from gentext.sound.alignments import Lengths, until
from gentext.sound.recognizer import Features, Mels, SpeechEncoder, check_mels, standardised

Hidden = Bool[Tensor, "n t"]


class MaskedSpeechEncoder(Model):
    """An encoder of log-mel frames, trained to fill in those that are hidden.

    A ``Recognizer`` can start from it. Args: ``mels`` numbers a frame; ``hidden`` units of each
    layer; ``context`` frames on each side that the first layer sees; ``dropout``; ``rate`` the
    share of frames that are hidden; ``span`` of how many in a row.
    """

    def __init__(
        self,
        *,
        mels: int,
        hidden: int = 128,
        context: int = 4,
        dropout: float | int = 0.1,
        rate: float | int = 0.4,
        span: int = 6,
    ) -> None:
        super().__init__()
        check_number("rate", rate, above=0, below=1)
        check_count("span", span)
        self.mels, self.rate, self.span = mels, rate, span
        self.net = SpeechEncoder(mels, hidden, context, dropout)
        self.mask = nn.Parameter(torch.zeros(mels))
        self.head = nn.Linear(hidden, mels)

    def loss(self, x: Mels, lengths: Lengths) -> Scalar:
        """The mean squared error of the values of hidden frames, drawn afresh for each utterance.

        Who fills in 0 has about 1, for utterances are standardised.
        """
        x, lengths = self._checked(x, lengths)
        M = hidden_spans(lengths, x.shape[1], rate=self.rate, span=self.span)
        error = (self._fill(x, lengths, M) - x).square().mean(-1)
        return torch.where(M, error, 0).sum() / M.sum().clamp(min=1)

    @in_evaluation
    def encode(self, x: Mels, lengths: Lengths | None = None) -> Features:
        """The features of every frame, none of them hidden, and 0 in the padding."""
        return self.represent(x, lengths)

    def represent(self, x: Mels, lengths: Lengths | None = None) -> Features:
        """The same in the mode that the model is in."""
        return self.net(*self._checked(x, lengths))

    def backbone(self) -> list[nn.Module]:
        """The encoder, without the layer that predicts frames."""
        return [self.net]

    @in_evaluation
    def reconstruct(
        self, x: Mels, lengths: Lengths, *, generator: torch.Generator | None = None
    ) -> tuple[Mels, Mels, Hidden]:
        """Standardised frames, the same with hidden ones filled in, and which were hidden."""
        x, lengths = self._checked(x, lengths)
        M = hidden_spans(lengths, x.shape[1], rate=self.rate, span=self.span, generator=generator)
        return x, torch.where(M[..., None], self._fill(x, lengths, M), x), M

    def check(self, x: Tensor, lengths: Tensor) -> None:
        """Raise ValueError where utterances do not fit this model."""
        check_mels(x, lengths, self.mels)

    def _checked(self, x: Mels, lengths: Lengths | None) -> tuple[Mels, Lengths]:
        """Standardised frames, and lengths as int64."""
        x, lengths = check_mels(x, lengths, self.mels)
        return standardised(x, lengths), lengths

    def _fill(self, x: Mels, lengths: Lengths, M: Hidden) -> Mels:
        """What the model takes for the frames, of which it does not see those in M."""
        seen = torch.where(M[..., None], self.mask.to(x), x)
        return at_least_single(self.head(self.net(seen, lengths)))


def hidden_spans(
    lengths: Lengths,
    frames: int,
    *,
    rate: float | int,
    span: int,
    generator: torch.Generator | None = None,
) -> Hidden:
    """M: spans of ``span`` frames that begin anywhere and may overlap; each frame is in M by rate.

    A span begins at a frame, or before the first one, with probability 1 − (1 − rate)^(1/span):
    then a frame, which ``span`` beginnings cover, is hidden with probability ``rate``. Padding is
    not hidden.
    """
    check_number("rate", rate, above=0, below=1)
    check_count("frames", frames)
    check_count("span", span)
    begins = 1 - (1 - rate) ** (1 / span)
    n, device = len(lengths), lengths.device
    u = torch.rand(n, frames + span - 1, device=device, **drawn_by(generator))
    begun = (u < begins).long().cumsum(1)  # up to a frame, and up to span frames before it
    before = torch.cat([torch.zeros_like(begun[:, :1]), begun[:, : frames - 1]], 1)
    return (begun[:, span - 1 :] > before) & until(lengths, frames)


keep_contract(globals())
