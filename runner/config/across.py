"""Effects of one group's choice on another group: settings of a model for its data, and of debug=smoke for models."""

from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from runner.config.build import PACKAGES
from runner.config.paths import content_of, options_in


def set_in_own_model(config: dict[str, Any], named: Container[str]) -> None:
    """Remove `own_models` of debug=smoke, and set its options in a model of this package.

    A user's model may have no such option, or an option of the same name with another meaning.

    Args:
        named: options that the user has given, which are not changed.
    """
    options = config.pop("own_models", {})
    if options and str(config["model"].get("_target_")).startswith(f"{PACKAGES['model']}."):
        model = config["model"]
        model |= {key: value for key, value in options.items() if key in model and f"model.{key}" not in named}


def without_models_own(config: dict[str, Any], named: Container[str], folders: Sequence[Path]) -> None:
    """Remove options that a model's file sets for the data if the data has no such option, e.g. `crop` for ImageNet.

    Args:
        named: options that the user has given. They are kept, and the data's class rejects them.
    """
    if "model" in config and "data" in config:
        has = options_in("data", str(config["data"].get("name")), folders)
        for key in content_of("model", str(config["model"].get("name")), folders).get("data", {}):
            if has and key not in has and f"data.{key}" not in named:
                config["data"].pop(key, None)
