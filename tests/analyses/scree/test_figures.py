"""curves.png, places.png and directions.png: nothing overlaps, nothing is exaggerated, everything is labelled."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from runner.analyses.scree import codes, report
from runner.analyses.scree.report import Choosing, choices, figures, table
from runner.tasks.metrics import by_name

PLACES = ("stages.0.0.convolution2", "stages.0.1.convolution2", "all")
KS = (1, 2, 4, 8, 16)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """Collect the figures that are drawn, by file name."""
    kept: dict[str, Figure] = {}

    def save(figure: Figure, path: Path) -> Path:
        figure.draw_without_rendering()
        kept[path.name] = figure
        return path

    for module in (report, codes):
        monkeypatch.setattr(module, "save", save)
    return kept


def draw(metric: str, values: dict[str, list[float]], drawn: dict[str, Figure], folder: Path) -> dict[str, list[Axes]]:
    """Draw figures for places with given values by k, and return the panels of each."""
    rows = [
        {"column": "tail", "place": place, "k": k, "n": 16, "split": split, "metric": metric, "value": value}
        for place, curve in values.items()
        for k, value in zip(KS, curve, strict=True)
        for split in ("validation", "test")
    ]
    wide, choosing = table(rows, "tail"), Choosing(by_name(metric), 0.01)
    figures(wide, choices(wide, choosing), choosing, "tail", folder)
    return {name: figure.axes for name, figure in drawn.items()}


def test_one_percent_is_little_and_places_have_one_scale(drawn, tmp_path):
    flat = [0.960, 0.962, 0.965, 0.968, 0.970]
    panels = draw("accuracy", dict(zip(PLACES, (flat, flat, flat), strict=True)), drawn, tmp_path)
    for place in (*panels["places.png"], *panels["curves.png"]):
        low, high = place.get_ylim()
        assert high - low >= 20
        assert low < 96 and high > 97
    steep = [0.2, 0.5, 0.7, 0.9, 0.97]
    panels = draw("accuracy", dict(zip(PLACES, (flat, steep, flat), strict=True)), drawn, tmp_path)
    limits = {place.get_ylim() for place in panels["places.png"]}
    assert len(limits) == 1
    assert next(iter(limits))[0] < 20
    assert [bool(place.get_ylabel()) for place in panels["places.png"]] == [True, False, False]


def test_losses_keep_equal_ratios_alike(drawn, tmp_path):
    flat = [0.0102, 0.0101, 0.0101, 0.01, 0.01]
    for place in draw("mse", dict(zip(PLACES, (flat, flat, flat), strict=True)), drawn, tmp_path)["places.png"]:
        low, high = place.get_ylim()
        assert place.get_yscale() == "log"
        assert high / low >= 2
        assert low < 0.01 and high > 0.0102


def test_marks_are_named_in_the_legend_and_seen_where_they_coincide(drawn, tmp_path):
    corner = [0.2, 0.5, 0.96, 0.965, 0.97]
    panels = draw("accuracy", dict(zip(PLACES, (corner,) * 3, strict=True)), drawn, tmp_path)["places.png"]
    for place in panels:
        assert not place.texts, "no text that could collide"
        marks = {line.get_label(): line for line in place.lines if line.get_transform() == place.get_xaxis_transform()}
        assert list(marks) == ["tail: elbow", "tail: fewest"]
        elbow, fewest = marks.values()
        assert (elbow.get_xdata()[0], fewest.get_xdata()[0]) == (4, 4)
        assert elbow.get_markersize() > fewest.get_markersize()
        assert elbow.get_linestyle() != fewest.get_linestyle()
    (legend,) = drawn["places.png"].legends
    assert [text.get_text() for text in legend.get_texts()] == ["tail", "tail: elbow", "tail: fewest"]


@pytest.mark.parametrize("channels", [1, 3])
def test_directions_say_what_their_colours_mean(drawn, tmp_path, channels):
    changes = torch.randn(3, channels, 4, 4, generator=torch.Generator().manual_seed(0))
    codes._directions(changes, tmp_path / "directions.png")
    figure = drawn["directions.png"]
    if channels == 1:
        bar = figure.axes[-1]
        assert [label.get_text() for label in bar.get_xticklabels()][1] == "no change"
        mapped = figure.axes[0].images[0]
        np.testing.assert_allclose(mapped.norm.vmin + mapped.norm.vmax, 2 * bar.get_xticks()[1])
    else:
        assert figure.get_supxlabel().startswith("gray: no change")
