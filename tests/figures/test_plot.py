"""Figures: pixels that are the images' own, a font with Chinese, and drawings that repeat."""

import subprocess
import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib import font_manager
from PIL import Image

from gentext import data, pairs, plot, text


@pytest.fixture(autouse=True)
def _fresh_figures():
    with matplotlib.rc_context():
        plot.use_style()
        yield
    plt.close("all")


def test_tile_puts_every_image_in_its_place():
    x = torch.linspace(0, 1, 5 * 2 * 3).reshape(5, 1, 2, 3)
    page = plot.tile(x, columns=2, gap=1)
    assert page.shape == (3 * 2 + 2, 2 * 3 + 1)
    for i in range(5):
        top, left = i // 2 * 3, i % 2 * 4
        expected = np.round(x[i, 0].numpy() * 255)
        np.testing.assert_array_equal(page[top : top + 2, left : left + 3], expected)
    assert (page[2] == 255).all()  # a gap between rows
    assert (page[6:, 4:] == 255).all()  # the sixth place is empty


def test_tile_keeps_the_order_of_colours():
    red = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1)
    assert plot.tile(red).tolist() == [[[255, 0, 0]]]


@pytest.mark.parametrize(("n", "columns"), [(9, 3), (10, 4), (1, 1)])
def test_tile_is_about_square_by_default(n, columns):
    width = plot.tile(torch.zeros(n, 1, 4, 4), gap=0).shape[1]
    assert width == columns * 4


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(4, 4), r"\(n, c, h, w\).*\(4, 4\)"),
        (torch.zeros(2, 2, 4, 4), "c = 1 or 3"),
        (torch.zeros(0, 1, 4, 4), r"\(0, 1, 4, 4\)"),
        (torch.full((1, 1, 2, 2), 1.5), "from 1.5 to 1.5"),
        (torch.full((1, 1, 2, 2), -0.5), "clamp"),
        (torch.full((1, 1, 2, 2), torch.nan), "nan"),
        (torch.full((1, 1, 2, 2), torch.inf), "inf"),
        (torch.full((1, 1, 2, 2), 255, dtype=torch.uint8), "from 255 to 255; divide them by 255"),
        (np.zeros((2, 3)), r"got \(2, 3\)"),
        (["picture"], "real numbers"),
        ([], r"got \(0,\)"),
    ],
)
def test_images_that_are_none_are_refused(x, message):
    with pytest.raises(ValueError, match=message):
        plot.image_grid(x)


def test_a_grid_needs_a_column():
    with pytest.raises(ValueError, match="columns=0"):
        plot.tile(torch.zeros(1, 1, 2, 2), columns=0)


def test_gaps_are_not_negative():
    with pytest.raises(ValueError, match="gap=-1"):
        plot.tile(torch.zeros(4, 1, 2, 2), gap=-1)


KINDS = {
    "bfloat16": lambda x: x.bfloat16(),
    "half": lambda x: x.half(),
    "double": lambda x: x.double(),
    "with gradients": lambda x: x.clone().requires_grad_() * 1,
    "an array": lambda x: x.numpy(),
    "a list of tensors": lambda x: list(x.clone().requires_grad_()),
    "a list": lambda x: x.tolist(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_numbers_gives_the_figure_of_single_precision(kind):
    """Quarters and whole numbers, which all kinds hold exactly."""
    of = KINDS[kind]
    x = torch.arange(8).view(2, 1, 2, 2) % 5 / 4
    np.testing.assert_array_equal(plot.tile(of(x)), plot.tile(x))
    y = torch.tensor([1.5, -2.0, 0.25])
    at = torch.tensor([1.0, 2.0, 4.0])
    line = plot.curves({"loss": of(y)}, of(at)).lines[0]
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == (at.tolist(), y.tolist())
    z, labels = torch.tensor([[0.5, 1.0], [2.0, 3.0], [4.0, 5.0]]), torch.tensor([0.0, 1.0, 0.0])
    ax = plot.latent_map(of(z), of(labels))
    assert [c.get_offsets().tolist() for c in ax.collections] == [z[::2].tolist(), [[2, 3]]]
    ax = plot.bars(dict(zip("abc", of(y), strict=True)), {"a": of(y)[2]})
    assert [bar.get_width() for bar in ax.patches] == y.tolist()
    assert ax.texts[0].get_text() == "1.50 ± 0.25"


def test_integers_of_two_levels_are_images():
    x = torch.tensor([0, 1]).view(1, 1, 1, 2)
    for kind in (torch.uint8, torch.int64, torch.bool):
        assert plot.tile(x.to(kind)).tolist() == [[0, 255]]


def test_image_grid_draws_on_the_given_axes():
    _, ax = plot.figure()
    x = torch.rand(4, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    assert plot.image_grid(x, ax=ax) is ax
    np.testing.assert_array_equal(ax.images[0].get_array(), plot.tile(x))
    assert ax.images[0].get_clim() == (0, 255)


@pytest.mark.parametrize(("n", "columns"), [(12, 12), (16, 4), (10, 1)])
def test_a_grid_of_its_own_has_the_shape_of_its_page(n, columns):
    fig = plot.image_grid(torch.zeros(n, 1, 28, 28), columns).figure
    height, width = plot.tile(torch.zeros(n, 1, 28, 28), columns).shape
    assert np.divide(*fig.get_size_inches()) == pytest.approx(width / height)
    assert (fig.get_size_inches() <= (6.4, 4.41)).all()


def test_save_grid_enlarges_every_pixel_alike(tmp_path):
    x = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    path = plot.save_grid(x, tmp_path / "grid.png", columns=2)
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    page = plot.tile(x, columns=2)
    scale = pixels.shape[0] // page.shape[0]
    assert scale > 1
    np.testing.assert_array_equal(pixels, page.repeat(scale, 0).repeat(scale, 1))


def test_save_grid_that_cannot_write_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="cannot be written"):
        plot.save_grid(torch.zeros(1, 1, 2, 2), tmp_path / "missing" / "grid.png")
    (tmp_path / "grid.png").mkdir()
    with pytest.raises(ValueError, match="choose another place"):
        plot.save_grid(torch.zeros(1, 1, 2, 2), tmp_path / "grid.png")
    with pytest.raises(ValueError, match="no name of a file"):
        plot.save_grid(torch.zeros(1, 1, 2, 2), "")
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]


def test_save_grid_knows_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert plot.save_grid(torch.zeros(1, 1, 2, 2), "~/grid.png") == tmp_path / "grid.png"
    assert (tmp_path / "grid.png").is_file()


def test_curves_differ_without_colour_and_keep_their_numbers():
    series = {str(k): [float(k), 2.0, k + 1.0] for k in range(7)}
    ax = plot.curves(series, ylabel="nats")
    assert len({str(line._dash_pattern) for line in ax.lines}) == 7
    assert len({line.get_marker() for line in ax.lines}) == 7
    for k, line in enumerate(ax.lines):
        assert line.get_xdata().tolist() == [1, 2, 3]
        assert line.get_ydata().tolist() == series[str(k)]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(series)
    assert ax.get_ylabel() == "nats"


def test_curves_take_tensors_that_carry_gradients():
    ax = plot.curves({"a": torch.ones(2, requires_grad=True)}, x=torch.tensor([0.1, 4.0]))
    assert ax.lines[0].get_xdata().tolist() == pytest.approx([0.1, 4.0])
    assert ax.get_legend() is None


def test_a_curve_of_another_length_is_named():
    with pytest.raises(ValueError, match="'b' has 3 values for 2 positions"):
        plot.curves({"a": [1, 2], "b": [1, 2, 3]}, x=[0, 1])


def test_what_is_not_finite_is_a_gap_in_a_curve():
    y = [1.0, np.nan, np.inf, 3.0]
    ax = plot.curves({"a": y, "b": []})
    assert plot.png(ax)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), y)
    low, high = ax.get_ylim()
    assert 0.5 < low < 1
    assert 3 < high < 3.5


@pytest.mark.parametrize(
    ("series", "x", "message"),
    [
        ({"a": torch.zeros(2, 2)}, None, r"curve 'a' must have shape \(n,\), got \(2, 2\)"),
        ({"a": 3.0}, None, r"curve 'a' must have shape \(n,\), got \(\)"),
        ({"a": [1, 2]}, [[1], [2]], r"positions in x must have shape \(n,\), got \(2, 1\)"),
        ({"a": ["1", "2"]}, None, "curve 'a' must be real numbers"),
        ({"a": [1, None]}, None, "curve 'a' must be real numbers"),
        ({"a": [1j]}, None, "curve 'a' must be real numbers, got list of complex128"),
        ({"a": [[1], [2, 3]]}, None, "curve 'a' are rows of different lengths"),
    ],
)
def test_numbers_that_are_no_curve_are_named(series, x, message):
    with pytest.raises(ValueError, match=message):
        plot.curves(series, x)
    assert plt.get_fignums() == []  # no empty figure is left to be shown


def test_latent_map_separates_and_names_the_classes():
    z = torch.tensor([[0.0, 0.0], [5.0, 1.0], [2.0, 0.0], [7.0, 3.0]])
    ax = plot.latent_map(z, torch.tensor([0, 1, 0, 1]), classes=["bag", "boot"])
    assert [np.asarray(c.get_offsets()).tolist() for c in ax.collections] == [
        [[0, 0], [2, 0]],
        [[5, 1], [7, 3]],
    ]
    assert {t.get_text(): t.get_position() for t in ax.texts} == {"bag": (1, 0), "boot": (6, 2)}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$z_1$", "$z_2$")
    shapes = {c.get_paths()[0].vertices.tobytes() for c in ax.collections}
    assert len(shapes) == 2


@pytest.mark.parametrize(
    ("z", "y", "message"),
    [
        (torch.zeros(4, 3), None, r"\(4, 3\)"),
        (torch.zeros(4, 2), torch.zeros(3, dtype=torch.long), r"shape \(4,\), got \(3,\)"),
        (torch.full((4, 2), torch.nan), None, "finite codes"),
        (torch.zeros(2, 2), [0.5, 1], "whole numbers"),
        (torch.zeros(2, 2), [np.nan, 1], "whole numbers"),
        (torch.zeros(2, 2), [0, 2], "2 classes have labels 0 to 1, got 0 to 2"),
        (torch.zeros(2, 2), [-1, 0], "2 classes have labels 0 to 1, got -1 to 0"),
    ],
)
def test_codes_without_a_map_are_refused(z, y, message):
    with pytest.raises(ValueError, match=message):
        plot.latent_map(z, y, ["bag", "boot"])
    assert plt.get_fignums() == []


def test_bars_print_as_many_digits_as_the_error_allows():
    ax = plot.bars({"a": 2.4349, "b": 131.26, "c": 4.0875}, {"a": 0.014, "b": 12.0})
    assert [bar.get_width() for bar in ax.patches] == [2.4349, 131.26, 4.0875]
    assert [t.get_text() for t in ax.texts] == ["2.435 ± 0.014", "131 ± 12", "4.088"]
    assert ax.yaxis_inverted()
    whiskers = ax.containers[0].lines[2][0].get_segments()
    assert [float(np.ptp(whisker[:, 0])) for whisker in whiskers] == pytest.approx([0.028, 24, 0])


def test_bars_without_a_finite_size_or_error_say_so():
    values = {"a": 2.5, "b": 2.5, "c": np.nan, "d": torch.tensor(torch.inf), "e": -np.inf}
    ax = plot.bars(values, {"a": torch.inf, "b": np.nan, "c": 0.1})
    assert plot.png(ax)
    said = ["2.5 ± inf", "2.5 ± nan", "nan", "inf", "-inf"]
    assert [t.get_text() for t in ax.texts] == said
    assert [bar.get_width() for bar in ax.patches] == [2.5, 2.5, 0, 0, 0]
    whiskers = ax.containers[0].lines[2][0].get_segments()
    assert [float(np.ptp(whisker[:, 0])) for whisker in whiskers] == pytest.approx([0, 0, 0, 0, 0])
    assert plot.png(plot.bars({}))


@pytest.mark.parametrize(
    ("values", "errors", "message"),
    [
        ({"a": 1.0}, {"a": -0.1}, r"0 or more, got -0\.1"),
        ({"a": torch.zeros(2)}, None, "value of 'a' must be one number, got 2"),
        ({"a": 1.0}, {"a": []}, "error of 'a' must be one number, got 0"),
        ({"a": "1"}, None, "value of 'a' must be real numbers"),
    ],
)
def test_what_is_no_bar_is_named(values, errors, message):
    with pytest.raises(ValueError, match=message):
        plot.bars(values, errors)


def test_an_error_without_a_bar_is_refused():
    with pytest.raises(ValueError, match=r"unknown bar 'vea': did you mean 'vae'\?"):
        plot.bars({"vae": 1.0}, {"vea": 0.1})


def test_labels_in_chinese_beside_mathematics_miss_no_glyph(caplog):
    ax = plot.curves({"损失": [1, -2]}, xlabel=r"步数，$\beta = -1$（自编码器）", ylabel="−1 → 2")
    ax.set_title("重建误差：越小越好")
    assert plot.png(ax)  # plain text that misses a glyph warns, and warnings are errors here
    assert caplog.records == []  # text with mathematics writes to the log instead


def strings(found):
    """All strings in nested tuples and dictionaries."""
    if isinstance(found, str):
        return [found]
    parts = found.values() if isinstance(found, dict) else found or ()
    return [string for part in parts for string in strings(part)]


def bundled(name):
    """What is written in a data set or text, its notes, and the names of its classes."""
    if name == "pairs":  # all words of its rules occur in a part of it
        return strings(pairs.make(3000))
    if name in text.names():
        corpus = text.load(name)
        return strings((corpus.splits, corpus.notes))
    dataset = data.load(name)
    return strings((dict(dataset.notes), dataset.classes, dataset.attributes))


@pytest.mark.parametrize("name", [*text.names(), "emoji", "fashion-mnist", "faces"])
def test_every_character_of_what_is_bundled_can_be_drawn(name):
    found = {c for string in bundled(name) for c in string} - {"\n"}
    fonts = [
        font_manager.get_font(font_manager.findfont(family, fallback_to_default=False))
        for family in plt.rcParams["font.family"]
    ]
    drawn = {chr(code) for font in fonts for code in font.get_charmap()}
    assert found
    assert sorted(found - drawn) == []


def test_rare_characters_and_names_with_accents_miss_no_glyph():
    ax = plot.curves({"": [1]}, xlabel="㶉𫛶、𣃁、𫏐", ylabel="鳄鱼 蜥蜴 éčʼ")
    assert plot.png(ax)


def test_a_missing_glyph_is_noticed():
    ax = plot.curves({"": [1]}, xlabel="\u9f98")  # too rare for the bundled font
    with pytest.warns(UserWarning, match="missing"):
        plot.png(ax)


def test_a_drawing_repeats_names_no_program_and_closes():
    first, second = (plot.png(plot.curves({"a": [3, 1, 2]})) for _ in range(2))
    assert first == second
    assert b"Software" not in first
    assert plt.get_fignums() == []


def test_too_many_panels_are_refused():
    for given in ({"rows": 101}, {"columns": 10**6}, {"rows": 0}):
        with pytest.raises(ValueError, match=f"got {next(iter(given))}="):
            plot.figure(**given)


def test_what_is_no_drawing_is_refused():
    _, axes = plot.figure(1, 2)
    for nothing in (None, axes, [1, 2]):
        with pytest.raises(ValueError, match="a figure or its axes, got"):
            plot.png(nothing)
    ax = plot.figure()[0].subfigures(1, 2)[0].subplots()
    assert plot.png(ax).startswith(b"\x89PNG")


def test_figures_have_the_size_a_page_wants():
    fig, axes = plot.figure(2, 3)
    assert axes.shape == (2, 3)
    assert (fig.get_size_inches() * fig.dpi).tolist() == pytest.approx([704, 396])


def test_importing_loads_no_matplotlib():
    code = "import sys; from gentext import plot, widgets; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
