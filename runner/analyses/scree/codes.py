"""Figures for autoencoders with an ordered code: reconstructions from k features, and the effect of each feature."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from runner.analyses.scree.cuts import Cut
from runner.files import write_bytes
from runner.pruning.sweep import Sweeper
from runner.reporting.drawing import save

EXAMPLES = 10  # images per row, one per class if possible
CLASSES = 20  # maximum number of distinguishable classes
_ROWS = 9
_DIRECTIONS = 64
_TILE = 64  # approximate size of an image in the animation, in pixels
_LABEL = 24  # height of the label above it, in pixels
_SECONDS = 0.5  # per frame
_DOTS = 4_000


@torch.no_grad()
def pictures(sweeper: Sweeper, place: str, ks: Sequence[int], folder: Path) -> list[Path]:
    """Write reconstructions.png, reconstructions.gif, code.png and directions.png for the test split.

    Args:
        sweeper: a sweeper with a granularity named `place`, for a model with encode(images) → (N, code) and
            decode(code) → images.
        place: the feature place of the code.
        ks: the numbers of features to show reconstructions for, in ascending order.
    """
    model: Any = sweeper.model.eval()
    kept = _order(sweeper, place)
    images, codes, labels = _encoded(sweeper, model)
    codes, chosen = codes[:, kept], _one_a_class(labels)
    shown = images[chosen.to(images.device)]
    at_k = {}
    for k in ks:
        cut = Cut(place, k, len(kept), 1 - k / len(kept))
        with sweeper.pruned(cut.point("kept", "test")), sweeper.context():
            at_k[k] = model(shown).float()
    # Increase one feature at a time by one standard deviation above the mean, in the decoder's order of features.
    middle, order = codes.mean(0, keepdim=True), kept.argsort()
    units = middle + torch.diag(codes.std(0))
    directions = model.decode(units[:, order]) - model.decode(middle[:, order])
    low, high = shown.min(), shown.max()
    pixels = {k: ((made - low) / (high - low)).clamp(0, 1).cpu() for k, made in {0: shown, **at_k}.items()}
    data: Any = sweeper.data
    names = data.class_names[:CLASSES]
    return [
        _grid(pixels, folder / "reconstructions.png"),
        _animation(pixels, folder / "reconstructions.gif"),
        _code(codes.cpu().numpy(), labels.numpy(), names, folder / "code.png"),
        _directions(directions[:_DIRECTIONS].cpu(), folder / "directions.png"),
    ]


def _order(sweeper: Sweeper, place: str) -> Tensor:
    """Return the indices (features,) int64 of the features at a place, starting with the one that is pruned last."""
    members = sweeper.granularities[place].members(sweeper.model)
    return sweeper.ranking(members, "layer", "own").ranks[place][0].argsort(descending=True)


def _encoded(sweeper: Sweeper, model: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return images (N, C, H, W), codes (N, features) float32 and labels (N,) of the test split, on the CPU."""
    images, codes, labels = [], [], []
    for batch, classes in sweeper.data.eval_batches("test", sweeper.limit):
        codes.append(model.encode(batch))  # in float32, as the steps of a lower precision would be visible
        images.append(batch)
        labels.append(classes.cpu())
    return torch.cat(images), torch.cat(codes), torch.cat(labels)


def _one_a_class(labels: Tensor) -> Tensor:
    """Return the indices of up to ten images: the first of each class, then the second of each, and so on."""
    classes = pd.Series(labels.numpy())
    rounds = pd.DataFrame({"round": classes.groupby(classes).cumcount(), "class": classes})
    return torch.from_numpy(rounds.sort_values(["round", "class"], kind="stable").index[:EXAMPLES].to_numpy().copy())


def _grid(pixels: Mapping[int, Tensor], path: Path) -> Path:
    """Draw a row of originals (k = 0) and one row per k. If there are many, draw only powers of two and the last."""
    ks = [k for k in pixels if len(pixels) <= _ROWS or k & (k - 1) == 0 or k == max(pixels)]
    mosaic = _mosaic([pixels[k] for k in ks])
    inches = 0.85
    figure = Figure(figsize=(1 + inches * len(pixels[0]), 0.5 + inches * len(ks)), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.imshow(mosaic, interpolation="nearest")
    axes.set_yticks((np.arange(len(ks)) + 0.5) * len(mosaic) / len(ks), [f"k = {k}" if k else "original" for k in ks])
    axes.set_xticks([])
    axes.tick_params(length=0, labelsize=10)
    axes.spines[:].set_visible(False)
    return save(figure, path)


def _animation(pixels: Mapping[int, Tensor], path: Path) -> Path:
    """Write an animation with one frame per k that shows the originals above their reconstructions."""
    side = pixels[0].shape[-1]
    zoom = max(1, _TILE // side)
    font = ImageFont.truetype(findfont("DejaVu Sans"), 16)  # comes with Matplotlib
    frames = []
    for k in list(pixels)[1:]:
        mosaic = Image.fromarray(_mosaic([pixels[0], pixels[k]]))
        frame = Image.new("RGB", (mosaic.width * zoom, mosaic.height * zoom + _LABEL), "white")
        frame.paste(mosaic.resize((mosaic.width * zoom, mosaic.height * zoom), Image.Resampling.NEAREST), (0, _LABEL))
        ImageDraw.Draw(frame).text((4, 2), f"k = {k}", "black", font)
        frames.append(frame.convert("L") if pixels[0].shape[1] == 1 else frame.quantize(256))
    seconds = [_SECONDS] * (len(frames) - 1) + [4 * _SECONDS]
    content = io.BytesIO()
    frames[0].save(
        content, "GIF", save_all=True, append_images=frames[1:], duration=[int(1000 * s) for s in seconds], loop=0
    )
    write_bytes(path, content.getvalue())
    return path


def _mosaic(rows: Sequence[Tensor]) -> Any:
    """Join rows of images (n, C, H, W) in [0, 1] into one image (height, width, 3) uint8 with white separators."""
    padded = F.pad(torch.stack(list(rows)), (1, 0, 1, 0), value=1.0)
    r, n, channels, height, width = padded.shape
    joined = padded.permute(0, 3, 1, 4, 2).reshape(r * height, n * width, channels)
    return (255 * joined.expand(-1, -1, 3)).round().to(torch.uint8).numpy()


def _code(codes: Any, labels: Any, names: Sequence[str], path: Path) -> Path:
    """Draw the distribution of the first feature for each class, and a scatter plot of the first two features."""
    panels = min(2, codes.shape[1])
    figure = Figure(figsize=(1.5 + 5 * panels, 5.5), dpi=150, layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    colours = [colormaps["tab10" if len(names) <= 10 else "tab20"](index) for index in range(len(names))]
    _strips(axes[0], codes[:, 0], labels, names, colours)
    if panels > 1:
        # Draw points in the order of the split, so that no class covers the others.
        few = labels < len(names)
        dots = codes[few][:_DOTS, :2]
        axes[1].scatter(*dots.T, c=[colours[label] for label in labels[few][:_DOTS]], s=6, alpha=0.6, linewidths=0)
        axes[1].set_title("k = 2", fontsize=10)
        axes[1].set_xlabel("first feature", fontsize=9)
        axes[1].set_ylabel("second feature", fontsize=9)
        for name, colour in zip(names, colours, strict=True):
            axes[1].scatter([], [], color=colour, label=name, s=20)
        figure.legend(loc="outside right center", fontsize=9, frameon=False)
    for place in axes:
        place.spines[["top", "right"]].set_visible(False)
        place.tick_params(labelsize=8)
    return save(figure, path)


def _strips(axes: Axes, values: Any, labels: Any, names: Sequence[str], colours: Sequence[Any]) -> None:
    """Draw a histogram for each class, stacked vertically."""
    edges = np.histogram_bin_edges(values, 80)
    for index, colour in enumerate(colours):
        heights, _ = np.histogram(values[labels == index], edges)
        bottom = len(names) - 1 - index
        axes.stairs(bottom + 0.9 * heights / max(1, heights.max()), edges, baseline=bottom, fill=True, color=colour)
    axes.set_yticks(np.arange(len(names)) + 0.3, names[::-1])
    axes.set_ylim(0, len(names))
    axes.set_title("k = 1", fontsize=10)
    axes.set_xlabel("first feature", fontsize=9)


def _directions(changes: Tensor, path: Path) -> Path:
    """Draw how an increase in each feature changes the decoded mean code, on a separate scale per feature."""
    columns = min(8, len(changes))
    rows = -(-len(changes) // columns)
    figure = Figure(figsize=(max(1.15 * columns, 4.6), 1.0 + 1.35 * rows), dpi=150, layout="constrained")
    figure.suptitle(
        "each feature increased by one standard deviation\nfrom the mean code (largest change of a pixel)", fontsize=9
    )
    axes = figure.subplots(rows, columns, squeeze=False)
    for place in axes.flat:
        place.set_axis_off()
    for place, index in zip(axes.flat, range(len(changes)), strict=False):
        most = float(changes[index].abs().max()) or 1.0
        picture = (0.5 + 0.5 * changes[index] / most).permute(1, 2, 0).numpy()
        image = place.imshow(picture, cmap="RdBu_r", vmin=0, vmax=1, interpolation="nearest")
        place.set_title(f"{index + 1} ({most:.2g})", fontsize=8, pad=2)
    if changes.shape[1] == 1:
        bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.6, aspect=40, ticks=[0, 0.5, 1])
        bar.ax.set_xticklabels(["largest decrease", "no change", "largest increase"], fontsize=8)
    else:  # colour images
        figure.supxlabel(
            "gray: no change; otherwise the change of each colour, relative to the largest change", fontsize=8
        )
    return save(figure, path)
