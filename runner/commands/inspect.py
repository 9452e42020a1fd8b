"""run inspect MODEL|FOLDER… [options]: show a network's layers: what can be pruned, what is cut together, what is saved

  run inspect model=torchvision model.architecture=resnet18
  run inspect model=resnet32 sparsity=0.75
  run inspect model=module model.architecture=my_file:Net channels=1 image_size=28
  run inspect outputs/train/digits-resnet32-targeted_unit-* out=layers.csv

Takes any model of run train, before training, or the trained network of a run folder. Prints one row for each layer in
the order of computation: shape, parameters, FLOPs; prunable, or why not; the group of layers whose filters can only be
cut together; what a sparsity would leave, with each layer's filters ranked by magnitude (or by the run's own scores);
and why filters would stay. Then the parameters and FLOPs of the whole network, before and after the cut. data.root=PATH
is the location of a run's data.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner.compaction.inspection import inspect_network
from runner.config import choices
from runner.config.compose import ARCHITECTURE, Composer
from runner.config.paths import CONF
from runner.config.rules import check_each
from runner.config.trust import trust
from runner.errors import ConfigError, located
from runner.files import write_rows
from runner.inspecting import COLUMNS, built, rows, stored, table
from runner.rules import between, either, whole

_RULES = {
    "sparsity": between(0, 1, open_end=True),
    "channels": whole(1),
    "image_size": either(None, whole(1)),
    "classes": whole(2),
    "vocabulary": whole(3),
}


def main(folders: Sequence[str], overrides: Sequence[str], config_dir: Path | None = None) -> int:
    """Inspect a model, or the networks of finished runs."""
    named = any(text.startswith(("model=", "model.architecture=")) for text in overrides)
    if not folders and not named:
        raise ConfigError("run inspect needs a model or a run folder: run inspect model=resnet32")
    if folders:  # model.architecture says which stored class may be built, not which model to inspect
        classes = [text for text in overrides if text.startswith(ARCHITECTURE)]
        for text in classes:
            trust(text.removeprefix(ARCHITECTURE))
        overrides = [text for text in overrides if text not in classes]
    options = Composer("inspect", config_dir).single(overrides)
    check_each(options, _RULES)
    (granularity,) = choices.settle(
        "granularity", options["granularity"], [CONF, *([config_dir] if config_dir else [])]
    )
    finder = choices.make("granularity", granularity)
    given = stored(folders, overrides, options, config_dir, granularity["name"]) if folders else [built(options)]
    tables: list[dict[str, Any]] = []
    for one in given:
        try:
            found = inspect_network(one.model.eval(), one.example, float(options["sparsity"]), finder, one.scores)
        except ValueError as error:
            raise ConfigError(f"granularity={granularity['name']}: {error} ({one.title})") from None
        except Exception as error:  # whatever the user's forward raises
            raise ConfigError(f"{one.title} can't be traced: {located(error)[:200]}") from error
        print("\n".join(table(one.title, found, float(options["sparsity"]), granularity["key"])))
        tables += [{"network": one.title, **row} for row in rows(found)]
    if options["out"] is not None:
        Path(options["out"]).parent.mkdir(parents=True, exist_ok=True)
        write_rows(Path(options["out"]), COLUMNS, tables)
        print(options["out"])
    return 0
