"""examples/taildropout.py: its figures, and the order of features that TailDropout creates."""

import runpy
from pathlib import Path

EXAMPLE = Path(__file__).parent.parent / "examples" / "taildropout.py"


def test_figures_and_a_scree_plot_that_falls_early_only_with_taildropout(tmp_path):
    example = runpy.run_path(str(EXAMPLE))
    example["masks"](tmp_path / "masks.png")
    example["calibration"](tmp_path / "calibration.png")
    errors = example["scree"](tmp_path / "scree.png", points=100, hidden=32, steps=300)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calibration.png", "masks.png", "scree.png"]
    ordered, plain, without = errors.values()
    assert all(len(curve) == 33 and curve[0] > 10 * curve[-1] for curve in errors.values())
    assert ordered[8] < 0.5 * plain[8] and ordered[8] < 0.5 * without[8]
