"""Import optional libraries that `pip install .` does not install."""

import importlib
from types import ModuleType

from runner.errors import ConfigError, first_line


def need(choice: str, package: str, extra: str | None = None) -> ModuleType:
    """Import an optional library.

    Args:
        choice: the option that requires the library, such as `model=timm`.
        package: the name of the package to import.
        extra: the name of the extra in pyproject.toml. None means the same name as `package`.

    Raises:
        ConfigError: the library is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise ConfigError(f"{choice} can't import {package}: {first_line(error)}") from None
        raise ConfigError(
            f"{choice} needs {package}, which is not installed: pip install '.[{extra or package}]' in a checkout"
        ) from None
