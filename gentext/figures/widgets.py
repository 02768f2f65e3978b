"""Figures that move: a player of prepared frames for every reader, live sliders with a kernel.

The player is plain HTML with its frames inside: it works in the book's pages, in JupyterLab and
in Colab, carries no script and no identifiers, and is the same on every run.
"""

from __future__ import annotations

import base64
import html
import importlib.util
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from gentext.core import check_count, chosen
from gentext.core.signatures import keep_contract
from gentext.figures.plot import png

LIMIT = 40  # frames; more make a notebook too heavy to load
STATIC = "GENTEXT_STATIC"  # set while notebooks are executed to be published: no live widgets

# The handlers find their own player, so several of them on a page do not disturb each other.
_SHOW = (
    "var p=this.closest('.gt-player'),f=p.querySelectorAll('figure'),k=+this.value;"
    "for(var j=0;j<f.length;j++)f[j].style.display=j===k?'block':'none';"
    "this.setAttribute('aria-valuetext',f[k].querySelector('figcaption').textContent)"
)
_STEP = (
    "var r=this.closest('.gt-player').querySelector('input');r.value=+r.value+({step});"
    "r.dispatchEvent(new Event('input'))"
)
# JupyterLab would otherwise take the arrow keys and Enter for itself.
_KEYS = 'data-lm-suppress-shortcuts="true"'
_LIVE_NOTE = (
    "Run this cell with a kernel to move the sliders. "
    "在 Jupyter 或 Colab 中运行此单元，即可拖动滑块。"
)


def frames(
    function: Callable[[Any], Any], values: Sequence[Any], *, colours: int = 64
) -> list[bytes]:
    """Draw one PNG per value, with few colours so that a player of them stays light.

    Args:
        function: draws the figure of one value and returns it, or its axes.
        values: at most 40 of them.
        colours: in the palette of each frame, 2 to 256.

    Raises:
        ValueError: for no values or more than 40, other numbers of colours, or a function that
            returns no drawing.
    """
    _check_count(len(values), "values")
    if not 2 <= colours <= 256:
        raise ValueError(
            f"A palette holds 2 to 256 colours, got {colours}; choose 64, for example."
        )
    return [_reduce(png(function(value)), colours) for value in values]


def player(
    frames: Sequence[bytes],
    *,
    label: str,
    alt: str,
    values: Sequence[Any] | None = None,
    captions: Sequence[str] | None = None,
    start: int = 0,
) -> Player:
    """A slider over prepared frames that needs no kernel.

    Args:
        frames: PNG files of one size, at most 40.
        label: what the slider changes, for example ``"β"``.
        alt: what the picture shows, for those who cannot see it.
        values: the value of ``label`` in each frame, printed under it; by default 0, 1, ...
        captions: a sentence or numbers to print after the value, one to a frame.
        start: the index of the frame shown first, and alone in print.

    Raises:
        ValueError: for no frames or more than 40, a frame that is not PNG, an empty ``alt``,
            or values or captions that are not as many as the frames.
    """
    _check_count(len(frames), "frames")
    if any(not frame.startswith(b"\x89PNG\r\n\x1a\n") for frame in frames):
        raise ValueError("Every frame must be the content of a PNG file; make them with frames().")
    if not alt.strip():
        raise ValueError("A player needs an alternative text; say in alt what the picture shows.")
    check_count("start", start, 0)
    if start >= len(frames):
        raise ValueError(f"start must be one of 0 to {len(frames) - 1}, got {start}.")
    for name, given in (("values", values), ("captions", captions)):
        if given is not None and len(given) != len(frames):
            raise ValueError(
                f"{len(frames)} frames need as many {name}, got {len(given)}; give one to a frame."
            )
    values = range(len(frames)) if values is None else values
    notes = [f"{label} = {_text(value)}" for value in values]
    if captions is not None:
        notes = [f"{note}: {caption}" for note, caption in zip(notes, captions, strict=True)]
    return Player(tuple(frames), label, alt, tuple(notes), start)


class Player:
    """Frames with a slider; made by ``player`` and shown by being a cell's last value."""

    def __init__(
        self, frames: tuple[bytes, ...], label: str, alt: str, notes: tuple[str, ...], start: int
    ) -> None:
        self.frames, self.label, self.alt, self.notes, self.start = frames, label, alt, notes, start

    def __repr__(self) -> str:
        return f"<player of {len(self.frames)} frames, {self.notes[0]} to {self.notes[-1]}>"

    def _repr_png_(self) -> bytes:
        return self.frames[self.start]

    def _repr_html_(self) -> str:
        return (
            '<div class="gt-player" role="group" '
            f'aria-label="{html.escape(self.alt)}">{self._controls()}'
            + "".join(self._frame(k) for k in range(len(self.frames)))
            + "</div>"
        )

    def _controls(self) -> str:
        label, note = html.escape(self.label), html.escape(self.notes[self.start])
        slider = (
            f'<input type="range" {_KEYS} min="0" max="{len(self.frames) - 1}" step="1" '
            f'value="{self.start}" autocomplete="off" aria-label="{label}" '
            f'aria-valuetext="{note}" style="flex:1;min-width:0" oninput="{_SHOW}">'
        )
        back, forward = _button("◀", "previous 上一帧", -1), _button("▶", "next 下一帧", 1)
        style = "display:flex;align-items:center;gap:.5em;max-width:40em"
        return f'<div style="{style}"><span>{label}</span>{back}{slider}{forward}</div>'

    def _frame(self, k: int) -> str:
        display = "block" if k == self.start else "none"
        note, alt = html.escape(self.notes[k]), html.escape(f"{self.alt} ({self.notes[k]})")
        return (
            f'<figure style="margin:0;display:{display}">{_image(self.frames[k], alt)}'
            f"<figcaption>{note}</figcaption></figure>"
        )


def live(function: Callable[..., Any], *, alt: str, **ranges: Sequence[Any]) -> Live:
    """Sliders that redraw a figure; without a kernel or ipywidgets, the figure of the start.

    Args:
        function: draws a figure from keywords and returns it, or its axes.
        alt: what the picture shows, for those who cannot see it.
        ranges: for each keyword the values its slider may take; it starts at the middle one.

    Raises:
        ValueError: for no keyword, or a keyword without values.
    """
    if not ranges:
        raise ValueError("Nothing to move: give at least one keyword with the values it may take.")
    for name, values in ranges.items():
        if len(values) == 0:
            raise ValueError(f"The slider of {name!r} has no values; give at least one.")
    return Live(function, alt, {name: list(values) for name, values in ranges.items()})


class Live:
    """A figure with sliders; made by ``live`` and shown by being a cell's last value."""

    def __init__(
        self, function: Callable[..., Any], alt: str, ranges: Mapping[str, list[Any]]
    ) -> None:
        self.function, self.alt, self.ranges = function, alt, ranges

    def __repr__(self) -> str:
        spans = (f"{k} from {_text(v[0])} to {_text(v[-1])}" for k, v in self.ranges.items())
        return f"<live figure, {', '.join(spans)}>"

    def draw(self, **values: Any) -> bytes:
        """The figure at ``values`` as a PNG file; what is not given stays at its start."""
        for name in values:
            chosen("slider", name, self.ranges)
        start = {name: options[len(options) // 2] for name, options in self.ranges.items()}
        return _reduce(png(self.function(**{**start, **values})), 64)

    def widget(self) -> Any:
        """The sliders and their figure as one widget of ipywidgets, version 7 or 8."""
        import ipywidgets

        picture = ipywidgets.Image(value=self.draw(), format="png")
        sliders = {
            name: ipywidgets.SelectionSlider(
                options=[(_text(value), value) for value in options],
                value=options[len(options) // 2],
                description=name,
                continuous_update=False,
            )
            for name, options in self.ranges.items()
        }

        def redraw(_: Any) -> None:
            picture.value = self.draw(**{name: slider.value for name, slider in sliders.items()})

        for slider in sliders.values():
            slider.observe(redraw, names="value")
        return ipywidgets.VBox([*sliders.values(), picture])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        picture = self.draw()
        shown = (
            f'<figure style="margin:0">{_image(picture, html.escape(self.alt))}'
            f"<figcaption>{_LIVE_NOTE}</figcaption></figure>"
        )
        encoded = base64.b64encode(picture).decode()
        bundle = {"text/plain": repr(self), "text/html": shown, "image/png": encoded}
        if _has_kernel():
            view = {"version_major": 2, "version_minor": 0, "model_id": self.widget().model_id}
            return {**bundle, "application/vnd.jupyter.widget-view+json": view}
        return bundle


def _has_kernel() -> bool:
    if os.environ.get(STATIC) or importlib.util.find_spec("ipywidgets") is None:
        return False
    ipython = sys.modules.get("IPython")
    return hasattr(ipython and ipython.get_ipython(), "kernel")


def _button(sign: str, name: str, step: int) -> str:
    return (
        f'<button type="button" {_KEYS} aria-label="{name}" title="{name}" '
        f'onclick="{_STEP.format(step=step)}">{sign}</button>'
    )


def _image(picture: bytes, alt: str) -> str:
    data = base64.b64encode(picture).decode()
    style = "max-width:100%;height:auto"
    return f'<img src="data:image/png;base64,{data}" alt="{alt}" style="{style}">'


def _reduce(picture: bytes, colours: int) -> bytes:
    from PIL import Image

    flat = Image.open(io.BytesIO(picture)).convert("RGB")
    buffer = io.BytesIO()
    flat.quantize(colours, dither=Image.Dither.NONE).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _text(value: Any) -> str:
    value = value.item() if isinstance(value, Tensor | np.generic) and value.ndim == 0 else value
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _check_count(n: int, what: str) -> None:
    if not 1 <= n <= LIMIT:
        raise ValueError(f"A player holds 1 to {LIMIT} {what}, got {n}; choose fewer, or some.")


keep_contract(globals())
