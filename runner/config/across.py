"""What the choice of one group means for another: settings of models that are the data's, and of debug=smoke."""

from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from runner.config.build import PACKAGES
from runner.config.paths import content_of, options_in


def set_in_own_model(config: dict[str, Any], named: Container[str]) -> None:
    """Take `own_models` of debug=smoke out, and over into a model of this package.

    A user's model may have an option of the same name that means something else, or no such option.

    Args:
        named: options that the user has given; they stay.
    """
    options = config.pop("own_models", {})
    if options and str(config["model"].get("_target_")).startswith(f"{PACKAGES['model']}."):
        model = config["model"]
        model |= {key: value for key, value in options.items() if key in model and f"model.{key}" not in named}


def without_models_own(config: dict[str, Any], named: Container[str], folders: Sequence[Path]) -> None:
    """Leave out what a model's file sets for data that has no such option, as images that are streamed have no `crop`.

    Args:
        named: options that the user has given; they stay, and the data's class refuses them.
    """
    if "model" in config and "data" in config:
        has = options_in("data", str(config["data"].get("name")), folders)
        for key in content_of("model", str(config["model"].get("name")), folders).get("data", {}):
            if has and key not in has and f"data.{key}" not in named:
                config["data"].pop(key, None)
