"""Alignments of labels with frames: the lattice of their paths, and the recursion that sums them.

A path of CTC goes through the labels in order, with an optional blank before, between and after
them. The recursion of :mod:`gentext.sound.ctc` runs over the places of this row; here it stands for
a batch in log space, with the checks of what it is given.

Notation: ``e`` (n, t, s) log p_t(l_s); ``l`` (n, s) the labels with blanks, s = 2 labels + 1;
α_t(s) the probability of all beginnings of paths that are at s in frame t; ``lengths`` (n,) the
frames and ``places`` (n,) the places of each utterance, beyond which there is padding.

Source: Graves et al., ICML 2006.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gentext.core import at_hand, at_least_single, check_count, check_tensor, whole_numbers
from gentext.core.shapes import PerExample
from gentext.core.signatures import keep_contract

Frames = Float[Tensor, "n t v"]
Rows = Int[Tensor, "n labels"]
Lengths = Int[Tensor, "n"]
Places = Float[Tensor, "n t s"]

OFF = 0.05  # that a frame's probabilities may sum beside 1, in half precision


@dataclass(frozen=True, eq=False)
class Lattice:
    """The places that paths go through, and how probable each is in each frame."""

    e: Places
    l: Int[Tensor, "n s"]  # noqa: E741 - the book's symbol
    lengths: Lengths
    places: Lengths

    @property
    def never(self) -> float:
        """For log 0: of two −∞ a sum has no gradient, and a difference no value."""
        return never(self.e)

    @property
    def inside(self) -> Bool[Tensor, "n t s"]:
        """True where there is no padding."""
        _, t, s = self.e.shape
        return until(self.lengths, t)[..., None] & until(self.places, s)[:, None]

    def start(self) -> Float[Tensor, "n s"]:
        """log α_1: a path begins at the first blank or at the first label."""
        e = self.e[:, 0]
        return e.masked_fill(torch.arange(e.shape[1], device=e.device) > 1, self.never)

    def arriving(self, alpha: Float[Tensor, "n s"]) -> Float[Tensor, "3 n s"]:
        """What comes from s, from s − 1, and from s − 2 where l_s is neither blank nor l_(s−2)."""
        size = alpha.shape[1]
        one, two = (F.pad(alpha, (k, 0), value=self.never)[:, :size] for k in (1, 2))
        same = self.l == F.pad(self.l, (2, 0), value=-1)[:, :size]  # as all blanks are
        return torch.stack([alpha, one, two.masked_fill(same, self.never)])

    def alphas(self) -> Places:
        """log α, which after the last frame of an utterance stays as it is."""
        alpha = self.start()
        found = [alpha]
        for t in range(1, self.e.shape[1]):
            later = self.arriving(alpha).logsumexp(0) + self.e[:, t]
            alpha = torch.where((t < self.lengths)[:, None], later, alpha)
            found.append(alpha)
        return torch.stack(found, 1)

    def ends(self, last: Float[Tensor, "n s"]) -> Float[Tensor, "n 2"]:
        """Of the values of the last frame those at the last blank and at the last label."""
        places = self.places[:, None] - torch.arange(1, 3, device=last.device)
        return torch.where(places < 0, self.never, last.gather(1, places.clamp(min=0)))

    def total(self, alphas: Places) -> PerExample:
        """log p(y | x), the log of the sum of α_T over both ends."""
        return self.ends(alphas[:, -1]).logsumexp(1)

    def possible(self, value: Tensor) -> Tensor:
        """``value`` with −∞ where it is log 0."""
        return value.masked_fill(value < self.never / (4 * self.e.shape[1]), -math.inf)

    def mirrored(self, values: Places) -> Places:
        """Values of all places and frames, in reverse, with the padding where it was."""
        t, s = (
            _mirror(lengths, size)
            for lengths, size in zip((self.lengths, self.places), values.shape[1:], strict=True)
        )
        values = values.gather(1, t[..., None].expand_as(values))
        return values.gather(2, s[:, None].expand_as(values))

    def reversed(self) -> Lattice:
        """The same paths from their ends to their beginnings."""
        backwards = self.l.gather(1, _mirror(self.places, self.l.shape[1]))
        return replace(self, e=self.mirrored(self.e), l=backwards)


def lattice(
    log_p: Frames, y: Rows, lengths: Lengths | None, y_lengths: Lengths | None, blank: int
) -> Lattice:
    """The lattice of labels ``y`` and of their log-probabilities in each frame.

    Arguments and errors are those of ``ctc_log_prob``.
    """
    log_p, y, lengths, y_lengths = checked(log_p, y, lengths, y_lengths, blank)
    rows = torch.stack([torch.full_like(y, blank), y], 2).flatten(1)
    rows = F.pad(rows, (0, 1), value=blank)
    e = log_p.clamp(min=never(log_p) / (2 * log_p.shape[1]))
    e = e.gather(2, rows[:, None].expand(-1, log_p.shape[1], -1))
    return Lattice(e, rows, lengths, 2 * y_lengths + 1)


def never(like: Tensor) -> float:
    """What stands for log 0 in the type of ``like``: a sum of two of them is still finite."""
    return torch.finfo(like.dtype).min / 4


def until(lengths: Lengths, size: int) -> Bool[Tensor, "n _"]:
    """(n, size), True at the places before the end."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def _mirror(lengths: Tensor, size: int) -> Tensor:
    """Places (n, size) that turn every row round and leave its padding at the end."""
    place = torch.arange(size, device=lengths.device)
    return torch.where(until(lengths, size), lengths[:, None] - 1 - place, place)


def mirror(x: Float[Tensor, "n t d"], lengths: Lengths) -> Float[Tensor, "n t d"]:
    """``x`` with the frames of each utterance in reverse, and its padding where it was."""
    return x.gather(1, _mirror(lengths, x.shape[1])[..., None].expand_as(x))


def frames_needed(y: Rows, y_lengths: Lengths | None = None) -> Lengths:
    """The least number of frames of each row: its labels, and a blank between two that are equal.

    "hello" needs six.
    """
    y = _rows(y)
    y_lengths = check_lengths("y_lengths", y_lengths, y, least=0)
    repeats = (y[:, 1:] == y[:, :-1]) & until(y_lengths, y.shape[1])[:, 1:]
    return y_lengths + repeats.sum(1)


def check_lengths(
    name: str, lengths: Lengths | None, rows: Tensor, *, least: int = 1
) -> Int[Tensor, "n"]:
    """``lengths`` as int64; ValueError unless there is one a row, at most that of ``rows`` (n, t).

    None stands for rows without padding; ``name`` is that of the argument.
    """
    n, most = rows.shape[:2]
    if lengths is None:
        return torch.full((n,), most, device=rows.device)
    lengths = whole_numbers(lengths, name)
    if lengths.shape != (n,):
        raise ValueError(
            f"got {name} of shape {tuple(lengths.shape)}; give ({n},), one for each of {n} rows"
        )
    if at_hand(lengths) and bool(((lengths < least) | (lengths > most)).any()):
        raise ValueError(
            f"got {name} from {int(lengths.min())} to {int(lengths.max())}, but they must be "
            f"{least} to {most}, which is how long the padded rows are"
        )
    return lengths


def check_transcripts(
    y: Rows, lengths: Lengths, y_lengths: Lengths | None, *, vocab_size: int, blank: int = 0
) -> tuple[Rows, Lengths]:
    """Labels as int64 with blanks in the padding, and their lengths; ValueError where none fit.

    They are symbols below ``vocab_size`` other than ``blank``, few enough for the ``lengths``, the
    frames of each utterance.
    """
    y = _rows(y)
    if len(y) != len(lengths):
        raise ValueError(f"got {len(y)} rows of labels y for {len(lengths)} utterances; give pairs")
    y_lengths = check_lengths("y_lengths", y_lengths, y, least=0)
    shown = until(y_lengths, y.shape[1])
    if at_hand(y) and bool((((y < 0) | (y >= vocab_size) | (y == blank)) & shown).any()):
        raise ValueError(
            f"got labels y that are the blank {blank}, or none of 0 to {vocab_size - 1}: only the "
            "network says blank, and rows are padded from y_lengths on"
        )
    _check_room(frames_needed(y, y_lengths), lengths, y_lengths)
    return y.masked_fill(~shown, blank), y_lengths


def _check_room(needed: Tensor, lengths: Tensor, y_lengths: Tensor) -> None:
    """Raise ValueError where an utterance has fewer frames than its labels need."""
    if at_hand(needed) and at_hand(lengths) and bool((needed > lengths).any()):
        k = int((needed > lengths).long().argmax())
        raise ValueError(
            f"utterance {k} has {int(lengths[k])} frames, but its {int(y_lengths[k])} labels need "
            f"{int(needed[k])}, with a blank between two that are equal: leave it out, or give "
            "more frames"
        )


def check_frames(
    log_p: Frames, lengths: Lengths | None = None, blank: int = 0
) -> tuple[Frames, Lengths]:
    """``log_p`` in single precision at least, and its lengths; ValueError for what is none."""
    check_tensor(log_p, "log_p")
    if log_p.ndim != 3 or not log_p.is_floating_point() or not log_p.numel():
        raise ValueError(
            f"got log_p {tuple(log_p.shape)} of {log_p.dtype}; give log-probabilities (n, t, v) "
            "of n utterances, t frames and v symbols"
        )
    check_count("blank", blank, 0)
    if blank >= log_p.shape[2]:
        raise ValueError(f"got blank={blank} for {log_p.shape[2]} symbols; it must be one of them")
    log_p, lengths = at_least_single(log_p), check_lengths("lengths", lengths, log_p)
    if at_hand(log_p):
        normalised = log_p.detach().logsumexp(-1).abs() < OFF
        if not bool((normalised | ~until(lengths, log_p.shape[1])).all()):
            raise ValueError(
                "got log_p whose probabilities do not sum to 1 in every frame; give "
                "logits.log_softmax(-1)"
            )
    return log_p, lengths


def checked(
    log_p: Frames, y: Rows, lengths: Lengths | None, y_lengths: Lengths | None, blank: int
) -> tuple[Frames, Rows, Lengths, Lengths]:
    """All four as ``check_frames`` and ``check_transcripts`` give them."""
    log_p, lengths = check_frames(log_p, lengths, blank)
    v = log_p.shape[2]
    y, y_lengths = check_transcripts(y, lengths, y_lengths, vocab_size=v, blank=blank)
    return log_p, y, lengths, y_lengths


def _rows(y: Tensor) -> Rows:
    y = whole_numbers(y, "labels y")
    if y.ndim != 2:
        raise ValueError(f"got labels y of shape {tuple(y.shape)}; give rows, (n, labels)")
    return y


keep_contract(globals())
