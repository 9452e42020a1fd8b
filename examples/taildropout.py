"""The effect of TailDropout, in three figures: python examples/taildropout.py [FOLDER]

- masks.png: which features a batch keeps, and how many, with TailDropout and with ordinary dropout;
- calibration.png: the requested drop rate, and the measured mean;
- scree.png: a network that has memorized 1,000 random targets, cut to its first k hidden features.

The figures follow the notebook in https://github.com/ragulpr/taildropout and take about ten seconds on a CPU.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import torch
from matplotlib import pyplot as plt
from torch import nn

from runner.dropout import TailDropout

ORANGE, BLUE, GRAY = "#D55E00", "#0072B2", "#777777"


def masks(path: Path, features: int = 50, examples: int = 100, p: float = 0.5) -> None:
    """Draw the features that 100 examples keep (top), and the number of features kept over 20,000 examples (bottom)."""
    layers = {f"TailDropout({p})": TailDropout(p), f"nn.Dropout({p})": nn.Dropout(p)}
    figure, panels = plt.subplots(2, 2, figsize=(9, 6.5), layout="constrained", sharex="row")
    for name, column, colour in zip(layers, panels.T, (ORANGE, BLUE), strict=True):
        kept = layers[name](torch.ones(20_000, features)) != 0
        column[0].imshow(kept[:examples].numpy(), cmap="Greys", aspect="auto", interpolation="nearest")
        column[0].set(title=name, xlabel="feature (black: kept)", ylabel="example")
        column[1].hist(kept.sum(1).numpy(), bins=range(features + 2), density=True, color=colour, align="left")
        column[1].set(xlabel=f"features kept, of {features}", ylabel="fraction of examples")
    figure.savefig(path, dpi=130)


def calibration(path: Path, features: int = 50) -> None:
    """Draw the mean drop rate over 100,000 examples for p from 0.0001 to 0.99, and how often each feature is kept."""
    asked = [1e-4, 1e-3, 0.01, 0.05, *(i / 10 for i in range(1, 10)), 0.95, 0.99]
    figure, (rates, each) = plt.subplots(1, 2, figsize=(9.5, 4.2), layout="constrained")
    measured = {}
    for p in asked:
        measured[p] = (TailDropout(p)(torch.ones(100_000, features)) != 0).float().mean(0)
    rates.plot([1e-4, 1], [1e-4, 1], color=GRAY, linewidth=1, label="asked")
    rates.plot(asked, [1 - float(kept.mean()) for kept in measured.values()], "o", color=ORANGE, label="measured")
    rates.set(xscale="log", yscale="log", xlabel="p", ylabel="mean fraction of features dropped")
    rates.legend(frameon=False)
    for p, colour in ((0.001, "#009E73"), (0.1, BLUE), (0.5, ORANGE), (0.9, "#CC79A7")):
        each.plot(range(1, features + 1), measured[p].numpy(), color=colour, label=f"p = {p}")
    each.set(xlabel="feature", ylabel="fraction of examples that keep it", ylim=(0, 1.02))
    each.legend(frameon=False)
    figure.savefig(path, dpi=130)


def scree(path: Path, points: int = 1000, hidden: int = 128, steps: int = 1500) -> dict[str, list[float]]:
    """Draw the mean squared error of the first k hidden features on random targets.

    The network is trained with TailDropout, with ordinary dropout, and without dropout.

    Returns:
        name → the errors at k = 0 … hidden.
    """
    torch.manual_seed(0)
    inputs, targets = torch.randn(points, 20), torch.randn(points, 1)
    layers = {"TailDropout(0.1)": TailDropout(0.1), "nn.Dropout(0.1)": nn.Dropout(0.1), "none": nn.Identity()}
    errors, cut = {}, TailDropout()
    for name, dropout in layers.items():
        torch.manual_seed(1)
        body = nn.Sequential(nn.Linear(20, 256), nn.ReLU(), nn.Linear(256, hidden), nn.ReLU())
        network = nn.Sequential(body, dropout, nn.Linear(hidden, 1))
        optimizer = torch.optim.Adam(network.parameters(), 2e-3)
        for _ in range(steps):
            loss = (network(inputs) - targets).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        errors[name] = []
        with torch.no_grad():
            features = body(inputs)
            for k in range(hidden + 1):
                cut.set_k(k)  # the first k features from now on
                errors[name].append(float((network[2](cut(features)) - targets).square().mean()))
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for (name, curve), colour in zip(errors.items(), (ORANGE, BLUE, GRAY), strict=True):
        axes.plot(curve, color=colour, label=name)
    axes.axhline(
        float(targets.var(correction=0)), color=GRAY, linewidth=1, linestyle=":", label="the targets' variance"
    )
    axes.set(yscale="log", ylim=(2e-4, 2), xlabel=f"first k of {hidden} features kept")
    axes.set_ylabel("mean squared error, training points")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=130)
    return errors


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    masks(folder / "masks.png")
    calibration(folder / "calibration.png")
    found = scree(folder / "scree.png")
    for name, curve in found.items():
        print(name, *(f"k={k}: {curve[k]:.4f}" for k in (0, 1, 2, 4, 8, 16, 32, 64, 128)), sep="  ")
