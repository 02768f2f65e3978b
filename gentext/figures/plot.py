"""The book's figures: one look, image grids, curves, bars and maps of latent codes.

Every curve differs from its neighbours by dashes and marker as well as by colour, so a figure
survives a grey printer and colour blindness; the background is white, which dark pages keep.
Labels in Chinese are set in bundled fonts. Matplotlib is loaded by the first figure, not by
importing this module.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gentext.core import check_count, check_number, chosen
from gentext.core.signatures import keep_contract
from gentext.figures import values as given

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

FONT, RARE = "gentext Sans", "gentext Rare"
# Okabe and Ito's colours, told apart by every common kind of colour vision; yellow is left out.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
SIZE = (6.4, 3.6)  # inches
GRID_HEIGHT = 4.4  # inches, at most
DPI = 110
MOST_PANELS = 100  # on a side of a figure


def use_style() -> None:
    """Give every later figure the book's look, with a font that has Chinese characters."""
    import matplotlib
    from cycler import cycler

    _register_fonts()
    matplotlib.rcParams.update(
        {
            # First, because a label that mixes Chinese with $mathematics$ uses one font only.
            "font.family": [FONT, RARE, "DejaVu Sans"],
            "mathtext.fontset": "cm",
            # A phone shows the figure at half its width: these are about 11 pixels there.
            "font.size": 13,
            "axes.labelsize": 14,
            "axes.titlesize": 14,
            "legend.fontsize": 12,
            "figure.figsize": SIZE,
            "figure.dpi": DPI,
            "savefig.dpi": "figure",
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#DDDDDD",
            "legend.frameon": False,
            "lines.markersize": 5,
            "image.cmap": "gray",
            "axes.prop_cycle": cycler(color=COLOURS) + cycler(linestyle=DASHES),
        }
    )


def figure(
    rows: int = 1, columns: int = 1, *, size: tuple[float, float] = SIZE, **options: Any
) -> tuple[matplotlib.figure.Figure, Any]:
    """A figure of ``size`` inches and its axes (one, or an array), as ``plt.subplots`` gives."""
    import matplotlib.pyplot as plt

    for name, count in (("rows", rows), ("columns", columns)):
        check_number(name, count, least=1, most=MOST_PANELS)
    options = {"dpi": DPI, "layout": "constrained", **options}
    return plt.subplots(rows, columns, figsize=size, **options)


def png(drawing: Any) -> bytes:
    """A figure, or that of some axes, as a PNG that depends on nothing else; it is closed.

    Raises ValueError for anything that is no drawing.
    """
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    whole = drawing
    while isinstance(whole, Axes | SubFigure):
        whole = whole.figure
    if not isinstance(whole, Figure):
        raise ValueError(
            f"A drawing must be a figure or its axes, got {type(drawing).__name__}; a function "
            "that draws returns one."
        )
    buffer = io.BytesIO()
    whole.savefig(buffer, format="png", metadata={"Software": None})
    plt.close(whole)
    return buffer.getvalue()


def tile(x: Any, columns: int | None = None, *, gap: int = 1) -> np.ndarray:
    """Lay images out in rows on white.

    Args:
        x: images in [0, 1], of shape (n, c, h, w) with one channel or three (RGB): a tensor of any
            kind and device, an array, or a list of images.
        columns: images in a row; by default about as many as there are rows.
        gap: white pixels between two images.

    Returns:
        Bytes of shape (H, W) for grey images, (H, W, 3) for colour.

    Raises:
        ValueError: for another shape, no images, or values that are not finite or not in [0, 1].
    """
    x = given.images(x)
    n, c, h, w = x.shape
    columns = _columns(n, columns)
    check_count("gap", gap, 0)
    rows = math.ceil(n / columns)
    page = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, c), 255, dtype=np.uint8)
    pixels = x.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    for i, image in enumerate(pixels):
        top, left = i // columns * (h + gap), i % columns * (w + gap)
        page[top : top + h, left : left + w] = image
    return page[:, :, 0] if c == 1 else page


def image_grid(
    x: Any, columns: int | None = None, ax: matplotlib.axes.Axes | None = None
) -> matplotlib.axes.Axes:
    """Show images (n, c, h, w) in [0, 1], grey or RGB, ``columns`` to a row; returns the axes."""
    page = tile(x, columns)
    if ax is None:
        tall = page.shape[0] / page.shape[1]
        width = min(SIZE[0], GRID_HEIGHT / tall)
        ax = figure(size=(width, width * tall))[1]
    ax.imshow(page, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set_axis_off()
    return ax


def save_grid(x: Any, path: str | os.PathLike[str], columns: int | None = None) -> Path:
    """Write images (n, c, h, w) in [0, 1] as one PNG, every pixel enlarged to be seen.

    Raises:
        ValueError: for what ``tile`` refuses, and for a path that cannot be written; an older
            file of that name is then left as it was.
    """
    from PIL import Image

    page = tile(x, columns)
    scale = max(1, 512 // max(page.shape[:2]))
    buffer = io.BytesIO()
    enlarged = page.repeat(scale, axis=0).repeat(scale, axis=1)
    Image.fromarray(enlarged).save(buffer, format="PNG", optimize=True)
    return write_whole(path, buffer.getvalue())


def curves(
    series: Mapping[str, Any],
    x: Any = None,
    ax: matplotlib.axes.Axes | None = None,
    *,
    xlabel: str = "step",
    ylabel: str = "",
) -> matplotlib.axes.Axes:
    """Draw one labelled curve per entry, each with its own colour, dashes and marker.

    Args:
        series: numbers (n,) by label, in tensors of any kind, arrays or lists; where they are not
            finite, the curve has a gap. Lengths may differ when ``x`` is not given.
        x: the abscissae all curves share; by default 1, 2, ...
        ax: where to draw; by default a new figure.
        xlabel: what ``x`` is, with its unit.
        ylabel: what the numbers are, with their unit.

    Raises:
        ValueError: for numbers of another shape, or not as many as there are in ``x``.
    """
    drawn = {label: given.row(y, f"Numbers of curve {label!r}") for label, y in series.items()}
    shared = None if x is None else given.row(x, "The positions in x")
    for label, y in drawn.items():
        if shared is not None and shared.shape != y.shape:
            raise ValueError(
                f"Curve {label!r} has {len(y)} values for {len(shared)} positions in x; "
                "give as many of one as of the other."
            )
    ax = figure()[1] if ax is None else ax
    for i, (label, y) in enumerate(drawn.items()):
        at = np.arange(1, len(y) + 1) if shared is None else shared
        look = {"color": COLOURS[i % 7], "linestyle": DASHES[i % 7], "marker": MARKERS[i % 10]}
        ax.plot(at, y, label=label, markevery=max(1, len(y) // 10), **look)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if len(series) > 1:
        ax.legend()
    return ax


def latent_map(
    z: Any,
    y: Any = None,
    classes: Sequence[str] | None = None,
    ax: matplotlib.axes.Axes | None = None,
) -> matplotlib.axes.Axes:
    """Scatter two-dimensional codes, each class in its colour and marker and named at its median.

    Args:
        z: finite codes, of shape (n, 2), in a tensor of any kind, an array or a list.
        y: class indices, of shape (n,), or None.
        classes: a name for each class index; by default the index itself.
        ax: where to draw; by default a new square figure.

    Raises:
        ValueError: for codes or labels of another shape or kind, or labels without a name.
    """
    points = given.codes(z)
    known = None if classes is None else len(classes)
    labels = given.labels(np.zeros(len(points)) if y is None else y, len(points), known)
    ax = figure(size=(4.8, 4.8))[1] if ax is None else ax
    for k in np.unique(labels):
        cloud = points[labels == k]
        look: dict[str, Any] = {"color": COLOURS[k % 7], "marker": MARKERS[k % 10]}
        ax.scatter(cloud[:, 0], cloud[:, 1], s=14, alpha=0.6, linewidths=0, **look)
        if y is not None:
            _name(ax, np.median(cloud, axis=0), str(k) if classes is None else classes[k])
    ax.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
    return ax


def bars(
    values: Mapping[str, Any],
    errors: Mapping[str, Any] | None = None,
    ax: matplotlib.axes.Axes | None = None,
    *,
    xlabel: str = "",
) -> matplotlib.axes.Axes:
    """Compare numbers by horizontal bars, first on top, with the value and its error beside each.

    Args:
        values: the number of each row, by label; one that is not finite has no bar.
        errors: its standard error (same unit), for the rows that have one; no whisker is drawn
            where it is not finite.
        ax: where to draw; by default a new figure.
        xlabel: what the numbers are, with their unit.

    Raises:
        ValueError: for an error without a bar, or a negative one, or several numbers in a row.
    """
    for label in errors or {}:
        chosen("bar", label, values)
    numbers = [given.number(v, f"The value of {label!r}") for label, v in values.items()]
    spread = [given.number((errors or {}).get(k, 0), f"The error of {k!r}") for k in values]
    if any(error < 0 for error in spread):
        raise ValueError(f"A standard error is 0 or more, got {min(spread):g}; give its size.")
    ax = figure()[1] if ax is None else ax
    rows, widths = np.arange(len(values)), np.nan_to_num(numbers, posinf=0, neginf=0)
    whiskers = np.where(np.isfinite(np.add(numbers, spread)), spread, 0)
    drawn = ax.barh(rows, widths, xerr=whiskers, color=COLOURS[0], alpha=0.75, capsize=3)
    labels = [given.measured(*pair) for pair in zip(numbers, spread, strict=True)]
    ax.bar_label(drawn, labels, padding=4)
    ax.set_yticks(rows, list(values))
    ax.invert_yaxis()
    ax.margins(x=0.3)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel(xlabel)
    return ax


def _register_fonts() -> None:
    from matplotlib import font_manager

    known = {font.name for font in font_manager.fontManager.ttflist}
    for name, file in ((FONT, "gentext-sans.otf"), (RARE, "gentext-rare.ttf")):
        if name not in known:
            with as_file(files("gentext") / "fonts" / file) as path:
                font_manager.fontManager.addfont(str(path))


def _columns(n: int, columns: int | None) -> int:
    if columns is None:
        return math.ceil(math.sqrt(n))
    check_count("columns", columns)
    return min(columns, n)


def _name(ax: matplotlib.axes.Axes, at: np.ndarray, text: str) -> None:
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=3, foreground="white")]
    place: dict[str, Any] = {"ha": "center", "va": "center"}
    ax.text(float(at[0]), float(at[1]), text, path_effects=halo, **place)


def write_whole(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write a file, all of it or nothing; raises ValueError where that cannot be done."""
    path = Path(os.path.expanduser(path))
    if not path.name:
        raise ValueError(f"{str(path)!r} is no name of a file; add one, such as grid.png.")
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ValueError(
            f"{path} cannot be written ({error.strerror}); choose another place or make room."
        ) from error
    return path


keep_contract(globals())
