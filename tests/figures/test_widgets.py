"""The player and the live figure: what a reader, a screen reader and a printer get."""

import base64
import io
import re
import sys
from html.parser import HTMLParser
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from PIL import Image

from gentext import plot, widgets

VALUES = [0.1, 0.5, 2.0]


def picture(shade):
    """A PNG of one colour."""
    buffer = io.BytesIO()
    Image.new("L", (8, 4), shade).save(buffer, format="PNG")
    return buffer.getvalue()


def shown(markup):
    """Elements of ``markup`` as (tag, attributes), and its text."""
    elements, text = [], []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: elements.append((tag, dict(attributes)))
    parser.handle_data = text.append
    parser.feed(markup)
    return elements, "".join(text)


@pytest.fixture
def three():
    pictures = [picture(shade) for shade in (0, 100, 200)]
    captions = ["rate 3", "rate 2", "rate 1"]
    return widgets.player(
        pictures, label="β", values=VALUES, captions=captions, alt='a "digit"', start=1
    )


def test_player_holds_every_frame_with_its_number_and_caption(three):
    elements, text = shown(three._repr_html_())
    images = [attributes for tag, attributes in elements if tag == "img"]
    sources = [a["src"].removeprefix("data:image/png;base64,") for a in images]
    assert [base64.b64decode(source) for source in sources] == list(three.frames)
    assert images[2]["alt"] == 'a "digit" (β = 2: rate 1)'
    assert all(note in text for note in ("β = 0.1: rate 3", "β = 0.5: rate 2", "β = 2: rate 1"))


def test_player_shows_its_first_frame_alone(three):
    elements, _ = shown(three._repr_html_())
    styles = [attributes["style"] for tag, attributes in elements if tag == "figure"]
    assert ["display:block" in style for style in styles] == [False, True, False]
    assert ["display:none" in style for style in styles] == [True, False, True]
    assert three._repr_png_() == picture(100)


def test_player_needs_no_script_no_identifiers_and_no_other_host(three):
    elements, _ = shown(three._repr_html_())
    assert not any(tag == "script" or "id" in attributes for tag, attributes in elements)
    without_frames = re.sub(r"base64,[^\"]+", "", three._repr_html_())
    assert "//" not in without_frames
    assert three._repr_html_() == three._repr_html_()


def test_player_is_named_for_keyboard_and_screen_reader(three):
    elements, _ = shown(three._repr_html_())
    (slider,) = [attributes for tag, attributes in elements if tag == "input"]
    assert (slider["min"], slider["max"], slider["value"]) == ("0", "2", "1")
    assert slider["aria-label"] == "β"
    assert slider["aria-valuetext"] == "β = 0.5: rate 2"
    buttons = [attributes for tag, attributes in elements if tag == "button"]
    assert all(b["aria-label"] and b["type"] == "button" for b in buttons)
    assert len(buttons) == 2


def test_player_reads_the_same_on_every_run(three):
    assert repr(three) == "<player of 3 frames, β = 0.1: rate 3 to β = 2: rate 1>"


def test_player_counts_frames_that_have_no_values():
    _, text = shown(widgets.player([picture(0)] * 2, label="t", alt="noise")._repr_html_())
    assert "t = 0" in text
    assert "t = 1" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": []}, "got 0"),
        ({"frames": [picture(0)] * 41}, "1 to 40 frames, got 41"),
        ({"frames": [b"GIF89a"]}, "PNG"),
        ({"alt": " "}, "alternative text"),
        ({"values": [1, 2]}, "as many values, got 2"),
        ({"captions": []}, "as many captions, got 0"),
        ({"start": 1}, "0 to 0, got 1"),
        ({"start": -1}, "start=-1"),
    ],
)
def test_player_refuses_what_it_cannot_show(changes, message):
    arguments = {"frames": [picture(0)], "label": "t", "alt": "noise", **changes}
    with pytest.raises(ValueError, match=message):
        widgets.player(arguments.pop("frames"), **arguments)


def curve(beta):
    """A figure that depends on ``beta``."""
    return plot.curves({"y": [beta, 2 * beta]})


def test_frames_are_light_and_look_like_the_figure():
    frames = widgets.frames(curve, VALUES, colours=16)
    assert len(set(frames)) == 3
    for frame, value in zip(frames, VALUES, strict=True):
        whole = plot.png(curve(value))
        assert len(frame) < len(whole)
        with Image.open(io.BytesIO(frame)) as few, Image.open(io.BytesIO(whole)) as all_colours:
            assert few.size == all_colours.size
            assert len(few.getcolors()) <= 16
            pairs = zip(few.convert("L").tobytes(), all_colours.convert("L").tobytes(), strict=True)
            assert sum(abs(a - b) for a, b in pairs) / (few.width * few.height) < 1


def test_frames_are_at_most_forty():
    with pytest.raises(ValueError, match="1 to 40 values, got 50"):
        widgets.frames(curve, range(50))


def test_frames_need_a_palette_and_a_drawing():
    for colours in (1, 257):
        with pytest.raises(ValueError, match=f"2 to 256 colours, got {colours}"):
            widgets.frames(curve, VALUES, colours=colours)
    with pytest.raises(ValueError, match="figure or its axes, got NoneType"):
        widgets.frames(lambda value: None, VALUES)


def test_values_of_arrays_and_tensors_are_written_as_numbers():
    pictures = [picture(0)] * 2
    for values in (np.float32([0.25, 2]), torch.tensor([0.25, 2]).bfloat16()):
        player = widgets.player(pictures, label="t", alt="noise", values=list(values))
        assert player.notes == ("t = 0.25", "t = 2")


def test_live_without_a_kernel_is_the_figure_of_the_start():
    live = widgets.live(curve, alt="a line", beta=VALUES)
    bundle = live._repr_mimebundle_()
    expected = widgets.frames(curve, [0.5])[0]
    assert base64.b64decode(bundle["image/png"]) == expected
    elements, text = shown(bundle["text/html"])
    assert dict(elements)["img"]["alt"] == "a line"
    assert "即可拖动滑块" in text
    assert bundle["text/plain"] == "<live figure, beta from 0.1 to 2>"
    assert bundle == live._repr_mimebundle_()


@pytest.fixture
def _kernel(monkeypatch):
    class Shell:
        kernel = MagicMock()  # with which ipywidgets 7 speaks as soon as it is imported

    ipython = pytest.importorskip("IPython")
    monkeypatch.setattr(ipython, "get_ipython", Shell)
    monkeypatch.delenv(widgets.STATIC, raising=False)


@pytest.mark.usefixtures("_kernel")
def test_live_with_a_kernel_is_a_widget_unless_published(monkeypatch):
    view = "application/vnd.jupyter.widget-view+json"
    live = widgets.live(curve, alt="a line", beta=VALUES)
    assert view in live._repr_mimebundle_()
    monkeypatch.setenv(widgets.STATIC, "1")
    assert view not in live._repr_mimebundle_()


@pytest.mark.usefixtures("_kernel")
def test_live_without_ipywidgets_is_still_shown(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert "text/html" in widgets.live(curve, alt="a line", beta=VALUES)._repr_mimebundle_()


def test_a_moved_slider_redraws_the_figure():
    pytest.importorskip("ipywidgets")
    box = widgets.live(lambda beta, power: curve(beta**power), alt="", beta=VALUES, power=[1, 2])
    beta, power, picture = box.widget().children
    assert (beta.value, power.value) == (0.5, 2)
    beta.value = 2.0
    assert picture.value == widgets.frames(curve, [4.0])[0]


def test_a_slider_that_is_not_there_cannot_be_set():
    live = widgets.live(curve, alt="a line", beta=VALUES)
    assert live.draw(beta=2.0) == widgets.frames(curve, [2.0])[0]
    with pytest.raises(ValueError, match=r"unknown slider 'beat': .*choose one of beta"):
        live.draw(beat=2.0)


@pytest.mark.parametrize(
    ("ranges", "message"), [({}, "at least one keyword"), ({"beta": []}, "'beta' has no values")]
)
def test_live_refuses_what_cannot_move(ranges, message):
    with pytest.raises(ValueError, match=message):
        widgets.live(curve, alt="a line", **ranges)
