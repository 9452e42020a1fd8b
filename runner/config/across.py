"""Effects of one group's choice on another group, e.g. data options set by a model, model options by debug=smoke."""

import re
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from runner.config.build import PACKAGES
from runner.config.paths import content_of, options_in


def set_in_own_model(config: dict[str, Any], named: Container[str]) -> None:
    """Remove debug=smoke's `own_models` from the configuration, and set its options in a model from this package.

    A user's model may have no such option, or an option with the same name but a different meaning.

    Args:
        named: options set by the user, which are not changed.
    """
    options = config.pop("own_models", {})
    if options and str(config["model"].get("_target_")).startswith(f"{PACKAGES['model']}."):
        model = config["model"]
        model |= {key: value for key, value in options.items() if key in model and f"model.{key}" not in named}


def without_models_own(config: dict[str, Any], named: Container[str], folders: Sequence[Path]) -> None:
    """Remove data options set by a model's file that the data set does not have, e.g. `crop` for ImageNet.

    Args:
        named: options set by the user. They are kept, so that the data set's class rejects them.
    """
    if "model" in config and "data" in config:
        has = options_in("data", str(config["data"].get("name")), folders)
        for key in content_of("model", str(config["model"].get("name")), folders).get("data", {}):
            if has and key not in has and f"data.{key}" not in named:
                config["data"].pop(key, None)


def architecture_name(architecture: str) -> str:
    """Return an architecture's name for use in folder names, e.g. `Net` for my_file:Net and folder/Net."""
    return re.sub(r"[^\w.]+", "_", re.split(r"[:/]", architecture.rstrip("/"))[-1])
