"""Diagrams: boxes with symbols in them, and arrows between the boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gentext.core import chosen
from gentext.core.signatures import keep_contract
from gentext.figures import plot

MARGIN = 0.6  # around the centres of the outermost boxes, in units of their places


def diagram(
    boxes: Mapping[str, tuple[float, float, str]],
    arrows: Sequence[tuple[str, str]],
    *,
    size: tuple[float, float] = (7.2, 2.4),
    plain: Sequence[str] = (),
    fontsize: float = 13,
) -> Any:
    """The axes of a drawing of boxes and arrows, which run from edge to edge.

    Arguments:
        boxes: for each name where its centre is, across and up, and what stands in it; symbols
            between dollars.
        arrows: pairs of names, from where to where.
        size: of the figure in inches; plain: names of what has no frame.

    Raises ValueError for an arrow from or to a box that is not there.
    """
    _, ax = plot.figure(size=size)
    drawn = {}
    for name, (across, up, text) in boxes.items():
        frame = {"boxstyle": "round,pad=0.4", "fc": "white", "lw": 0 if name in plain else 1.2}
        drawn[name] = ax.text(
            across, up, text, ha="center", va="center", fontsize=fontsize, bbox=frame
        )
    for ends in arrows:
        start, end = (chosen("box", name, drawn) for name in ends)
        patches = {"patchA": start.get_bbox_patch(), "patchB": end.get_bbox_patch()}
        style = {"arrowstyle": "->", "lw": 1.4, "shrinkA": 1, "shrinkB": 1, **patches}
        ax.annotate("", end.get_position(), start.get_position(), arrowprops=style)
    places_across = [box[0] for box in boxes.values()]
    places_up = [box[1] for box in boxes.values()]
    ax.set(xlim=(min(places_across) - MARGIN, max(places_across) + MARGIN))
    ax.set(ylim=(min(places_up) - MARGIN, max(places_up) + MARGIN))
    ax.axis("off")
    return ax


keep_contract(globals())
