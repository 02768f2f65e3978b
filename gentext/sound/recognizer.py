"""Recognition of speech: log-mel frames to symbols, without an alignment, trained by CTC.

The network is that of DeepSpeech: three layers that see a frame and its neighbours, one recurrent
layer that reads the utterance in both directions, one more layer, and a softmax over the symbols
and the blank in each frame. It is trained with transcripts from the start, by CTC, and neither
pre-trained nor told phonemes or alignments. In place of the paper's plain recurrence, which is
clipped as all its layers are, stands a gated one; each utterance is standardised first.

Notation: ``x`` (n, t, mels) log-mel features, of ``lengths`` (n,) frames; ``y`` (n, labels) symbols
of ``y_lengths`` (n,); g(a) = min(max(a, 0), 20); C = ``context`` frames on each side; →h and ←h the
states of the two directions.

Source: Hannun et al., DeepSpeech: scaling up end-to-end speech recognition, 2014 (arXiv:1412.5567).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gentext.core import (
    Model,
    Represents,
    as_weights,
    at_hand,
    at_least_single,
    check_counts,
    check_dropout,
    check_number,
    check_tensor,
    evaluating,
    in_evaluation,
    is_finite,
)
from gentext.core.shapes import Scalar
from gentext.core.signatures import keep_contract
from gentext.sound.alignments import (
    Frames,
    Lengths,
    Rows,
    check_lengths,
    check_transcripts,
    mirror,
    until,
)
from gentext.sound.ctc import Labelling, LanguageModel, ctc_loss, ctc_prefix_beam, greedy_decode
from gentext.training.parts import built, described

BLANK = 0  # the symbol that also is the padding of a tokenizer's rows
CLIP = 20.0  # of the activations
LEAST = 1e-5  # added to the variance of an utterance, by which it is divided
Mels = Float[Tensor, "n t mels"]
Features = Float[Tensor, "n t hidden"]


class SpeechEncoder(nn.Module):
    """Features of each frame, by layers over neighbouring frames and one of both directions.

    Args: ``mels`` numbers a frame; ``hidden`` units of each layer; ``context`` C; ``dropout`` of
    the three layers before the recurrent one.
    """

    def __init__(self, mels: int, hidden: int, context: int, dropout: float | int) -> None:
        super().__init__()
        check_counts(mels=mels, hidden=hidden)
        check_counts(0, context=context)
        check_dropout(dropout)
        self.mels, self.hidden = mels, hidden
        self.window = _begun(nn.Conv1d(mels, hidden, 2 * context + 1, padding=context))
        self.layers = nn.ModuleList(_begun(nn.Linear(hidden, hidden)) for _ in range(2))
        self.forwards = nn.GRU(hidden, hidden, batch_first=True)
        self.backwards = nn.GRU(hidden, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Mels, lengths: Lengths) -> Features:
        """→h_t + ←h_t of every frame, 0 in the padding, which changes nothing."""
        shown = until(lengths, x.shape[1])[..., None]
        x = as_weights(torch.where(shown, x, 0), self)
        h = self.dropout(clipped(self.window(x.mT).mT))
        for layer in self.layers:
            h = self.dropout(clipped(layer(h)))
        empty = h.new_zeros(1, len(h), self.hidden)  # of the same kind, also under vmap
        back = mirror(self.backwards(mirror(h, lengths), empty)[0], lengths)
        return torch.where(shown, self.forwards(h, empty)[0] + back, 0)


class Recognizer(Model):
    """p(y | x) of texts y given sounds x: log-probabilities of each frame, summed by CTC.

    Symbol 0 is the blank, others are labels; as 0 is what pads the rows of a ``Tokenizer``, its
    tokens are symbols as they are, and its size is ``vocab_size``.

    Args: ``mels`` numbers a frame; ``vocab_size`` symbols, blank included; ``hidden`` units of each
    layer; ``context`` C; ``dropout`` of all layers but the recurrent one; ``encoder`` a pre-trained
    one, such as a ``MaskedSpeechEncoder``, which is copied and then is as large as it is (or as it
    is kept in ``arguments``, a dict of its ``class`` and what it is built with); ``rate`` the
    factor of the learning rate of such an encoder.
    """

    def __init__(
        self,
        *,
        mels: int,
        vocab_size: int,
        hidden: int = 128,
        context: int = 4,
        dropout: float | int = 0.1,
        encoder: Model | dict[str, Any] | None = None,
        rate: float | int = 1.0,
    ) -> None:
        super().__init__()
        check_counts(2, vocab_size=vocab_size)
        check_number("rate", rate, above=0, most=1)
        self.mels, self.vocab_size, self.rate = mels, vocab_size, rate
        if encoder is None:
            self.net = SpeechEncoder(mels, hidden, context, dropout)
        else:
            own = copy.deepcopy(built(encoder))
            self.net = _speech_encoder(own, mels)
            self.arguments = self.arguments | {"encoder": described(own)}
        self.last = _begun(nn.Linear(self.net.hidden, self.net.hidden))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.net.hidden, vocab_size)

    def logits(self, x: Mels, lengths: Lengths) -> Frames:
        """log p_t(k | x) of every frame but for a constant of each, in the mode of the model."""
        x, lengths = check_mels(x, lengths, self.mels)
        h = self.net(standardised(x, lengths), lengths)
        return at_least_single(self.head(self.dropout(clipped(self.last(h)))))

    def loss(self, x: Mels, lengths: Lengths, y: Rows, y_lengths: Lengths) -> Scalar:
        """−log p(y | x), the mean over the utterances, in nats.

        Beyond ``lengths`` and ``y_lengths`` rows may be padded by any number.

        Equation: :eq:`eq-audio-ctc`
        """
        return ctc_loss(self.logits(x, lengths), y, lengths, y_lengths, blank=BLANK).mean()

    def rates(self) -> dict[nn.Parameter, float]:
        """A pre-trained encoder learns at ``rate`` times the common rate, what is new at that."""
        return dict.fromkeys(self.net.parameters(), self.rate) if self.rate < 1 else {}

    @in_evaluation
    def log_probs(self, x: Mels, lengths: Lengths) -> Frames:
        """log p_t(k | x) of every frame, in nats."""
        return self.logits(x, lengths).log_softmax(-1)

    @torch.no_grad()
    def transcribe(
        self,
        x: Mels,
        lengths: Lengths,
        *,
        width: int | None = None,
        language_model: LanguageModel | None = None,
        weight: float | int = 1.0,
        bonus: float | int = 0.0,
    ) -> list[Labelling]:
        """The labels of each utterance, in evaluation mode.

        Arguments:
            width: of the search of ``ctc_prefix_beam``, which the others are for; None takes the
                most probable symbol of each frame.
        """
        if width is None and language_model is not None:
            raise ValueError("got a language_model without a search; give width, such as width=8")
        x, lengths = check_mels(x, lengths, self.mels)
        with evaluating(self):
            log_p = self.logits(x, lengths).log_softmax(-1)
        if width is None:
            return greedy_decode(log_p, lengths, blank=BLANK)
        how: dict[str, Any] = {"language_model": language_model, "weight": weight, "bonus": bonus}
        rows = zip(log_p, lengths.tolist(), strict=True)
        return [ctc_prefix_beam(row[:t], width, blank=BLANK, **how)[0].y for row, t in rows]

    def check(self, x: Tensor, lengths: Tensor, y: Tensor, y_lengths: Tensor) -> None:
        """Raise ValueError where utterances or their labels do not fit this model."""
        _, lengths = check_mels(x, lengths, self.mels)
        check_transcripts(y, lengths, y_lengths, vocab_size=self.vocab_size, blank=BLANK)


def clipped(a: Tensor) -> Tensor:
    """g(a) = min(max(a, 0), 20)."""
    return a.clamp(0, CLIP)


def standardised(x: Mels, lengths: Lengths) -> Mels:
    """Each utterance less the mean of its frames and bands, divided by their deviation.

    So the loudness, which adds to all log-mel values alike, makes no difference. Padding becomes 0.
    """
    shown = until(lengths, x.shape[1])[..., None]
    x, count = at_least_single(x), (lengths * x.shape[2])[:, None, None]
    mean = torch.where(shown, x, 0).sum((1, 2), keepdim=True) / count
    centred = torch.where(shown, x - mean, 0)
    variance = centred.square().sum((1, 2), keepdim=True) / count
    return centred / (variance + LEAST).sqrt()


def check_mels(x: Mels, lengths: Lengths | None, mels: int) -> tuple[Mels, Lengths]:
    """The same and lengths as int64; ValueError unless they are utterances of ``mels`` numbers."""
    check_tensor(x, "features x")
    if x.ndim != 3 or not x.is_floating_point() or not x.numel() or x.shape[2] != mels:
        raise ValueError(
            f"got features x {tuple(x.shape)} of {x.dtype}; give floating-point (n, t, {mels}) of "
            f"n utterances and t frames, {mels} mel bands each"
        )
    if at_hand(x) and not is_finite(x):
        raise ValueError("got NaN or infinite features x; add a little before the log of a power")
    return x, check_lengths("lengths", lengths, x)


def _begun(layer: nn.Conv1d | nn.Linear) -> nn.Module:
    """The layer with weights that keep the size of what rectified layers hand on.

    With smaller ones CTC stays for long at blanks in every frame.

    Source: He et al., ICCV 2015.
    """
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _speech_encoder(model: Any, mels: int) -> SpeechEncoder:
    """What a pre-trained model's features go through, if that is a ``SpeechEncoder``."""
    parts = model.backbone() if isinstance(model, Represents) else []
    if len(parts) != 1 or not isinstance(parts[0], SpeechEncoder):
        raise ValueError(
            f"a {type(model).__name__} has no features of frames; give a pre-trained encoder of "
            "speech, such as a MaskedSpeechEncoder"
        )
    if parts[0].mels != mels:
        raise ValueError(f"got mels={mels} and an encoder of {parts[0].mels}; choose the same")
    return parts[0]


keep_contract(globals())
