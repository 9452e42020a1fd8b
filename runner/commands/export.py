"""run export FOLDER… [options]: export networks of finished runs to .pt2 (torch.export) or ONNX files

  run export outputs/train/digits-resnet32-targeted-1a2b3c4d/seed0
  run export outputs/train/digits-resnet32-targeted-1a2b3c4d/seed0 sparsity=0.9 format=onnx out=small.onnx
  run export outputs/train/digits-resnet32-targeted-1a2b3c4d/seed0/compact/unit-0.5

Takes all runs at or below the folders, and the compact networks (run compact) whose own folders are given. The files
accept any batch size and, for Transformers and language models, other sequence lengths. Each file is loaded in a fresh
process that imports nothing from this package, and is only kept if it reproduces PyTorch's outputs to within a
relative error of 1e-5.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner.config.compose import Composer
from runner.config.rules import check_each
from runner.errors import ConfigError
from runner.exporting import SUFFIXES, check_packages, example_of
from runner.exporting import export as export_network
from runner.networks import Network, check_pruning, configurations, find_sources, opened
from runner.rules import one_of


def main(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """Write a file for each network, and print its path after checking the file."""
    asked = Composer("export", config_dir).single(overrides)
    check_each(asked, {"format": one_of(*SUFFIXES)})
    sources = find_sources(folders)
    asked = check_pruning(asked, sources, config_dir)
    if asked["out"] is not None:
        _check_out(Path(asked["out"]), asked["format"], len(sources))
    check_packages(asked["format"])
    for source, config in configurations(sources, asked, config_dir):
        with opened(source, config, asked) as network:
            path = _path(network, asked)
            data = network.experiment.data
            difference = export_network(network.model, example_of(data, data.splits[-1]), path, asked["format"])
        print(f"{path}  {network.pruning}; outputs differ from PyTorch's by {difference:.1e} relative")
    return 0


def _check_out(out: Path, format: str, networks: int) -> None:
    if networks > 1:
        raise ConfigError(f"out={out}: one file holds one network, but there are {networks}")
    if out.suffix != SUFFIXES[format]:
        raise ConfigError(f"out={out}: expected a name that ends in {SUFFIXES[format]}, for format={format}")


def _path(network: Network, asked: dict[str, Any]) -> Path:
    if asked["out"] is not None:
        return Path(asked["out"])
    return network.source.run.folder / "export" / f"{network.name}{SUFFIXES[asked['format']]}"
