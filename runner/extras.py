"""Libraries that only one choice needs and that `pip install .` leaves out."""

import importlib
from types import ModuleType

from runner.errors import ConfigError, first_line


def need(choice: str, package: str, extra: str | None = None) -> ModuleType:
    """Import a library that is an extra of this package.

    Args:
        choice: the option that asks for it, `model=timm`.
        extra: its name in pyproject.toml; None: the package's.

    Raises:
        ConfigError: it is not installed, or can't be imported.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise ConfigError(f"{choice} can't import {package}: {first_line(error)}") from None
        raise ConfigError(
            f"{choice} needs {package}, which is not installed: pip install '.[{extra or package}]' in a checkout"
        ) from None
