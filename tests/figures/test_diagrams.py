"""Arrows of diagrams run from the frame of one box to that of another."""

from __future__ import annotations

import pytest

from gentext.figures import diagrams, plot

BOXES = {"x": (0.0, 0.0, "$x$"), "f": (2.0, 1.0, "encoder"), "z": (4.0, 0.0, "$z$")}


def test_arrows_end_at_frames_and_all_boxes_are_inside():
    ax = diagrams.diagram(BOXES, [("x", "f"), ("f", "z")], plain=("x",))
    figure = ax.figure
    figure.canvas.draw()
    texts = {text.get_text(): text for text in ax.texts if text.get_text()}
    assert set(texts) == {"$x$", "encoder", "$z$"}
    arrows = [text.arrow_patch for text in ax.texts if getattr(text, "arrow_patch", None)]
    assert len(arrows) == 2
    frame = texts["encoder"].get_bbox_patch().get_window_extent()
    start, end = (arrows[0].get_path().vertices[k] for k in (0, -1))
    start, end = arrows[0].get_transform().transform([start, end])
    assert not frame.contains(*start)
    for text in texts.values():
        box, whole = text.get_window_extent(), figure.bbox
        assert whole.x0 <= box.x0
        assert box.x1 <= whole.x1
        assert whole.y0 <= box.y0
    plot.png(ax)


def test_an_arrow_to_no_box_is_refused():
    with pytest.raises(ValueError, match=r"box.*decoder"):
        diagrams.diagram(BOXES, [("x", "decoder")])
