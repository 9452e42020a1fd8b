"""Compose configurations with Hydra. Errors name the option and the value, and suggest the nearest valid one."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from runner.config.across import architecture_name, set_in_own_model, without_models_own
from runner.config.build import NAMED_CLASS, PACKAGES, PLUGINS, check_class, check_targets
from runner.config.choices import OPTIONS, settle
from runner.config.near import near, near_option
from runner.config.paths import CONF
from runner.config.rules import check, leaves
from runner.config.trust import trust, trust_folder
from runner.errors import ConfigError, first_line

# Former names of options, which may occur in stored overrides and in users' scripts.
_RENAMED = {"prune.scores": "prune.criterion"}
_WITH_MODEL = ("train", "bench", "inspect")  # commands that have model options
ARCHITECTURE = "model.architecture="
_PATHS = ("folder", "init", "outputs", "out", "predictions")


@dataclass
class _Known:
    """A cache of composed configurations, because composition takes much longer than setting options in the result."""

    parsed: dict[str, list[Override]] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)  # group → its choices
    composed: dict[tuple[str, ...], DictConfig] = field(default_factory=dict)  # by command and choices
    own: dict[tuple[str, ...], DictConfig] = field(default_factory=dict)  # the same without Hydra's own section
    defaults: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)  # as plain values


_KNOWN = _Known()


class Composer:
    """Composes the configurations of one command.

    Args:
        command: the name of the primary configuration, conf/<command>.yaml.
        config_dir: the folder of the user's own configurations and classes.
    """

    def __init__(self, command: str, config_dir: Path | None = None) -> None:
        self.command = command
        self.config_dir = config_dir
        # The user's own files may change during the process, so nothing is shared.
        self._known = _KNOWN if config_dir is None else _Known()
        if config_dir is not None:
            if not config_dir.is_dir():
                raise ConfigError(f"--config-dir {config_dir}: no such folder")
            sys.path.insert(0, str(config_dir.resolve()))
            trust_folder(config_dir.resolve())

    def single(self, overrides: Sequence[str]) -> dict[str, Any]:
        """Return a single checked configuration as plain values, including the name of every group's choice."""
        with self._hydra(), _names_as_typed(overrides):
            overrides = self._without_trusted(renamed(overrides))
            for override in self._parse(overrides):
                if override.is_sweep_override():
                    raise ConfigError(f"{override.input_line}: several values need -m (one run each)")
            return self._checked(overrides)

    def _without_trusted(self, overrides: Sequence[str]) -> list[str]:
        """Trust classes in `model.architecture=` for commands without model options; return the other overrides."""
        if self.command in _WITH_MODEL:
            return list(overrides)
        named = [text for text in overrides if text.startswith(ARCHITECTURE)]
        for text in named:
            trust(text.removeprefix(ARCHITECTURE))
        return [text for text in overrides if text not in named]

    def jobs(self, overrides: Sequence[str]) -> tuple[list[dict[str, Any]], Mapping[str, Any]]:
        """Return the checked configurations of a multirun, in Hydra's order, and Hydra's launcher configuration."""
        with self._hydra(), _names_as_typed(overrides):
            overrides = self._without_trusted(renamed(overrides))
            from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

            batches = BasicSweeper.split_arguments(self._parse(overrides), max_batch_size=None)
            jobs = [self._checked(job) for job in batches[0]]
            launcher = OmegaConf.to_container(self._compose(self._parse(batches[0][0]), whole=True).hydra.launcher)
            assert isinstance(launcher, dict)
            return jobs, {str(key): value for key, value in launcher.items()}

    def words(self, overrides: Sequence[str]) -> list[list[str]]:
        """Return the overrides of each job of a multirun, except those for Hydra itself."""
        with self._hydra():
            from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

            batches = BasicSweeper.split_arguments(self._parse(renamed(overrides)), max_batch_size=None)
            return [[word for word in job if not word.startswith("hydra")] for job in batches[0]]

    def parsed(self, overrides: Sequence[str]) -> list[tuple[str, Override]]:
        """Parse overrides, which may be sweeps, and return each with its text, with former option names replaced."""
        with self._hydra(), _names_as_typed(overrides):
            texts = self._without_trusted(renamed(overrides))
            return list(zip(texts, self._parse(texts), strict=True))

    @property
    def _folders(self) -> list[Path]:
        """The folders of configuration files. Later ones take precedence."""
        return [CONF] if self.config_dir is None else [CONF, self.config_dir]

    @contextmanager
    def _hydra(self) -> Iterator[None]:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONF), job_name="run", version_base="1.3"):
            if self.config_dir is not None:
                loader = GlobalHydra.instance().config_loader()
                loader.get_search_path().prepend("user", f"file://{self.config_dir.resolve()}", "schema")
                # The repository of sources was created with the loader; create it again with the user's folder.
                loader.repository.initialize_sources(loader.get_search_path())  # type: ignore[attr-defined]
            yield

    def _parse(self, overrides: Sequence[str]) -> list[Override]:
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        for text in overrides:
            if text in self._known.parsed:
                continue
            try:
                new = parser.parse_overrides([text])
            except HydraException:
                new = []
            if not new or not new[0].key_or_group:
                raise ConfigError(f"{text!r} is not understood: options are written name=value{_hint(text)}")
            self._known.parsed[text] = new
        return [override for text in overrides for override in self._known.parsed[text]]

    def _compose(self, overrides: Sequence[Override], whole: bool = False) -> DictConfig:
        """Compose the groups' choices, then set the options in the result in the same way as Hydra.

        Args:
            whole: whether to include Hydra's own section, which is several times as large as the rest.
        """
        key = (self.command, *self._chosen(overrides))
        if key not in self._known.composed:
            composed = compose(self.command, list(key[1:]), return_hydra_config=True)
            self._known.composed[key] = composed
            self._known.own[key] = OmegaConf.masked_copy(composed, [str(name) for name in composed if name != "hydra"])
        config = deepcopy((self._known.composed if whole else self._known.own)[key])
        options = [override for override in overrides if not self._choices(override.key_or_group)]
        hydras = [override for override in options if override.key_or_group.startswith("hydra.")]
        if hydras and not whole:
            self._compose(overrides, whole=True)  # rejects options that Hydra does not have
            options = [override for override in options if override not in hydras]
        ConfigLoaderImpl._apply_overrides_to_config(options, config)
        return config

    def _chosen(self, overrides: Sequence[Override]) -> tuple[str, ...]:
        """Return the overrides that choose a group's file, as typed by the user."""
        return tuple(override.input_line or "" for override in overrides if self._choices(override.key_or_group))

    def _checked(self, overrides: Sequence[str]) -> dict[str, Any]:
        parsed = self._parse(overrides)
        self._check_choices(parsed)
        # The same choices without the user's values. The jobs of a sweep have most of them in common.
        choices = self._chosen(parsed)
        key = (self.command, *choices)
        if key not in self._known.defaults:
            self._known.defaults[key] = self._plain(choices)
        defaults = self._known.defaults[key]
        self._check_options(parsed, defaults)
        config = self._plain(overrides)
        check(config, defaults)
        if "prune" in config:
            config["prune"]["criterion"] = self._settled("criterion", config["prune"]["criterion"])
            if config["prune"]["granularity"] != "auto":
                config["prune"]["granularity"] = self._settled("granularity", config["prune"]["granularity"])
        if "loggers" in config:
            config["loggers"] = self._settled("logger", config["loggers"])
        for name in _PATHS:
            if config.get(name) is not None:
                config[name] = str(Path(str(config[name])).expanduser())
        if "model" in config:
            check_targets(config, foreign=self.config_dir is not None)
            if config["model"]["_target_"] == NAMED_CLASS:
                trust(str(config["model"]["architecture"]))
        return config

    def _settled(self, group: str, value: Any) -> list[dict[str, Any]]:
        """Return complete choices, so that the configuration is self-contained."""
        parts = settle(group, value, self._folders)
        for part in parts:
            check_class(f"{OPTIONS[group]}._target_", part["_target_"], PLUGINS[group], self.config_dir is not None)
        return parts

    def _plain(self, overrides: Sequence[str]) -> dict[str, Any]:
        parsed = self._parse(overrides)
        # Hydra would interpret these options as choices of the groups with the same names.
        apart = {override.key_or_group: override.value() for override in parsed if override.key_or_group in PLUGINS}
        try:
            own = self._compose([override for override in parsed if override.key_or_group not in apart])
            choices = self._known.composed[self.command, *self._chosen(parsed)].hydra.runtime.choices
            plain = OmegaConf.to_container(own, resolve=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(first_line(error)) from None
        except YAMLError as error:
            raise ConfigError(" ".join(str(error).split())) from None
        assert isinstance(plain, dict)
        config = {str(key): value for key, value in plain.items()}
        config |= {name: value for name, value in apart.items() if name in config}
        for group in PACKAGES:
            if isinstance(config.get(group), dict):
                config[group] = {"name": choices.get(group), **config[group]}
        if "architecture" in config.get("model", {}):  # folders and tables are named after the network
            config["model"]["name"] = architecture_name(str(config["model"]["architecture"]))
        named = {override.key_or_group for override in parsed}
        without_models_own(config, named, self._folders)
        set_in_own_model(config, named)
        return config

    def _choices(self, group: str) -> list[str]:
        if group in PLUGINS:  # not in a defaults list, and run ticket has options of these names
            return []
        if group not in self._known.groups:
            self._known.groups[group] = GlobalHydra.instance().config_loader().get_group_options(group)
        return self._known.groups[group]

    def _check_choices(self, parsed: Sequence[Override]) -> None:
        """Reject unknown choices, suggesting the nearest one, and overrides that remove options."""
        for override in parsed:
            key, value = override.key_or_group, override.value()
            choices = self._choices(key)
            if override.is_delete():
                raise ConfigError(f"{override.input_line}: options can be changed, but not removed")
            if choices and value not in choices:
                hint = near(value, choices) if isinstance(value, str) else ""
                raise ConfigError(f"{override.input_line}: unknown{hint}; expected {', '.join(choices)}")

    def _check_options(self, parsed: Sequence[Override], defaults: Mapping[str, Any]) -> None:
        """Reject unknown options, suggesting the nearest one."""
        known = _all_names(defaults)
        for override in parsed:
            key = override.key_or_group
            added = (override.is_add() or override.is_force_add()) and _may_be_added(key, defaults)
            if override.package or not (key in known or added or key.startswith("hydra") or self._choices(key)):
                hint = near_option(key, known, defaults, self._folders)
                raise ConfigError(f"{override.input_line}: there is no option {key}{hint}")


def renamed(overrides: Sequence[str]) -> list[str]:
    """Replace former option names in overrides with the current ones."""
    parts = [text.partition("=") for text in overrides]
    return [_RENAMED.get(name, name) + equals + value for name, equals, value in parts]


@contextmanager
def _names_as_typed(overrides: Sequence[str]) -> Iterator[None]:
    """Make errors name options as the user typed them."""
    try:
        yield
    except ConfigError as error:
        message = str(error)
        for old, new in _RENAMED.items():
            if any(text.startswith(f"{old}=") for text in overrides):
                message = message.replace(f"{new}=", f"{old}=")
        raise type(error)(message) from None


def _all_names(config: Mapping[str, Any]) -> list[str]:
    """Return the dotted names of all options and of the groups and sections that contain them."""
    names = [name for name, _ in leaves(config) if not name.endswith(".name")]
    parts = {name.rpartition(".")[0] for name in names if "." in name}
    return names + sorted(parts)


def _may_be_added(key: str, defaults: Mapping[str, Any]) -> bool:
    """Return whether an option may be added: classes can have arguments that their YAML lacks, and mappings any key."""
    group, _, rest = key.partition(".")
    return (group in PACKAGES and rest not in ("", "name")) or any(key.startswith(f"{n}.") for n, _ in leaves(defaults))


def _hint(text: str) -> str:
    return "" if "=" in text else f" ({text}=…)"


def options(group: str, folder: Path = CONF) -> dict[str, str]:
    """Return the choices of a group, each with the one-line description at the top of its file."""
    found = {}
    for path in sorted((folder / group).glob("*.yaml")):
        lines = (line for line in path.read_text().splitlines() if line.startswith("#") and "@package" not in line)
        found[path.stem] = next(lines, "").lstrip("# ")
    return found
