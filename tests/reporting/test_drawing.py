"""Legibility of figures: columns have distinct styles, and the axis spreads high sparsities."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from runner.reporting.drawing import COLOURS, Curve, Panel, Style, draw

# The effect of each kind of colour blindness on linear RGB (Machado et al., 2009, severity 1).
SEEN = {
    "all": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
WHITE = [0.95047, 1.0, 1.08883]
GRID = [0, 10, 20, 30, 40, 50, 60, 70, 75, 80, 90, 95, 98, 99]


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Draw one curve over some sparsities (%), and return the axes and their renderer."""
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **how: (figures.append(self), save(self, *args, **how)))

    def make(sparsities: list[float]) -> tuple[Axes, FigureCanvasAgg]:
        curve = Curve("none", Style.number(0), sparsities, [50.0] * len(sparsities))
        draw([Panel("one", [curve]), Panel("two", [curve])], 2, "title", "accuracy", tmp_path / "a.png", 100.0)
        return figures[-1].axes[0], FigureCanvasAgg(figures[-1])

    return make


def places(axes: Axes, sparsities: list[float]) -> np.ndarray:
    """Return the positions of sparsities as fractions of the axis."""
    points = axes.transData.transform([(x, 0) for x in sparsities])
    return axes.transAxes.inverted().transform(points)[:, 0]


def labels(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_xticklabels()]


def lab(colour: str, seen: list[list[float]]) -> np.ndarray:
    """Return the CIELAB values of a colour as perceived."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(np.maximum(TO_XYZ @ np.clip(seen @ linear, 0, 1) / WHITE, 1e-6))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_the_first_32_columns_have_styles_of_their_own() -> None:
    styles = [Style.number(index) for index in range(32)]
    assert len(set(styles)) == 32
    assert len({(style.colour, style.marker) for style in styles}) == 32, "what stands beside them is always dashed"
    assert len({(style.colour, style.line) for style in styles}) == 32
    assert "--" not in {style.line for style in styles}


@pytest.mark.parametrize("seen", SEEN.values(), ids=SEEN)
def test_the_colour_blind_tell_the_colours_apart(seen) -> None:
    pairs = itertools.combinations([lab(colour, seen) for colour in COLOURS], 2)
    assert min(float(np.linalg.norm(a - b)) for a, b in pairs) > 15


def test_high_sparsities_are_spread(drawn) -> None:
    axes, _ = drawn(GRID)
    at = places(axes, GRID)
    assert (np.diff(at) > 0).all()
    assert at[0] > 0 and at[-1] < 1
    by_sparsity = dict(zip(GRID, at, strict=True))
    assert by_sparsity[99] - by_sparsity[98] > 0.1
    # Equal ratios of the remaining fraction have equal distances.
    assert by_sparsity[99] - by_sparsity[90] == pytest.approx(by_sparsity[90] - by_sparsity[0])
    assert labels(axes) == ["0", "30", "50", "75", "90", "95", "98", "99"]
    assert axes.get_xlabel() == "sparsity (%), logarithmic in the remaining fraction"


def test_low_ones_are_linear(drawn) -> None:
    axes, _ = drawn(GRID[:11])
    assert np.diff(places(axes, [0, 30, 60, 90])) == pytest.approx(0.3 * 100 / 104)
    assert labels(axes) == [str(tick) for tick in range(0, 101, 10)]
    assert axes.get_xlabel() == "sparsity (%)"


@pytest.mark.parametrize(
    "sparsities",
    [GRID, [*GRID, 99.9, 99.99], [*GRID, 100], [98.5, 98.6, 98.8, 99, 99.2, 99.4], [95, 100], [99]],
    ids=str,
)
@pytest.mark.filterwarnings("error")
def test_labels_are_apart_and_all_points_inside(drawn, sparsities) -> None:
    axes, canvas = drawn(sparsities)
    at = places(axes, sparsities)
    assert np.isfinite(at).all() and at.min() >= 0 and at.max() <= 1
    assert (np.diff(at) > 0.02).all() or len(at) > 6
    boxes = [label.get_window_extent(canvas.get_renderer()) for label in axes.get_xticklabels()]
    assert boxes
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_the_users_settings_do_not_change_the_layout(tmp_path) -> None:
    files = []
    for setting in (False, True):
        folder = tmp_path / str(setting)
        folder.mkdir()
        files.append([folder / "figure.png", folder / "figure.svg"])
        with rc_context({"figure.autolayout": setting}):
            draw([Panel("", [Curve("a", Style.number(0), GRID, GRID)])], 1, "", "accuracy (%)", files[-1], 100)
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
