"""Overrides that cannot be applied: which, and what to do about each."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from dtx.config.build import ConfigError
from dtx.text import first_line, suggest


def refuse_other_choices(overrides: Sequence[str], folders: Sequence[Path]) -> None:
    """Hydra would end in a defect of its own for a choice that is no name.

    Raises:
        ConfigError: Every group for which something else than a name or a list of names is chosen.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import QuotedString

    parser, errors = OverridesParser.create(), []
    for override in overrides:
        with suppress(*failures()):  # what cannot be read is explained later
            if _is_choice(override, folders):
                value = parser.parse_override(override).value()
                wrong = isinstance(value, dict)
                if isinstance(value, list):
                    wrong = not all(isinstance(name, (str, QuotedString)) for name in value)
                if wrong:
                    text = "the name of a config, or a list of names ([one,two]), is wanted"
                    errors.append((override.split("=", 1)[0].lstrip("+~"), text))
    if errors:
        raise ConfigError(errors)


@contextmanager
def search_path_is_there() -> Iterator[None]:
    """Refuse a place of ``hydra.searchpath`` that is not there, of which Hydra only warns.

    Raises:
        ConfigError: The place.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "provider=hydra.searchpath")
            yield
    except UserWarning as warning:
        place = str(warning).rpartition("path=")[2].removesuffix(" is not available.")
        what = f"{place} is not there; folders are file://FOLDER, packages pkg://PACKAGE"
        raise ConfigError([("hydra.searchpath", what)]) from None


def failures() -> tuple[type[Exception], ...]:
    """What Hydra raises for overrides, and for files that cannot be read."""
    from hydra.errors import HydraException

    read = (YAMLError, ValueError, OSError, RecursionError)
    return HydraException, OmegaConfBaseException, AssertionError, *read  # Hydra asserts choices


def blame(
    overrides: Sequence[str], folders: Sequence[Path]
) -> tuple[list[tuple[str, str]], DictConfig | None]:
    """Which overrides cannot be applied, and the config with the others; None if there is none.

    Choices of groups come first, because fields are there or not depending on them.
    """
    from hydra import compose as hydra_compose
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.core.override_parser.overrides_parser import OverridesParser

    known = [o for o in overrides if _is_search_path(o)]
    errors: list[tuple[str, str]] = []
    try:
        config = hydra_compose("config", known, return_hydra_config=True)
    except failures() as error:
        return [(o, said(error)) for o in known[:1]], None
    fields = []
    for override in overrides:
        if override in known:
            continue
        if not _is_choice(override, folders):
            fields.append(override)
            continue
        try:
            config = hydra_compose("config", [*known, override], return_hydra_config=True)
            known.append(override)
        except failures() as error:
            errors.append(_explain(override, error, config, folders))
    parser = OverridesParser.create()
    for override in fields:
        try:
            (parsed,) = parser.parse_overrides([override])
            if parsed.is_sweep_override():
                raise ValueError("multirun")
            ConfigLoaderImpl._apply_overrides_to_config([parsed], config)
        except failures() as error:
            errors.append(_explain(override, error, config, folders))
    return errors, config


def _is_search_path(override: str) -> bool:
    return override.split("=", 1)[0].lstrip("+") == "hydra.searchpath"


def said(error: Exception) -> str:
    """One line of what Hydra, OmegaConf or PyYAML says, with the file and line if it is one's."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}: {error.problem}; correct the YAML there"
    if isinstance(error, UnicodeDecodeError):
        return "a config is not UTF-8 text"
    return first_line(error)


def _is_choice(override: str, folders: Sequence[Path]) -> bool:
    group = override.split("=")[0].lstrip("+~").split("@")[0]
    named = re.fullmatch(r"\w+(/\w+)*", group)
    return named is not None and any((folder / group).is_dir() for folder in folders)


def _explain(
    override: str, error: Exception, config: DictConfig, folders: Sequence[Path]
) -> tuple[str, str]:
    name = override.split("=", 1)[0].lstrip("+~")
    if not name or ("=" not in override and not override.startswith("~")):
        return override.strip() or repr(override), "an override has the form name=value"
    if _is_choice(override, folders):
        group = name.split("@")[0]
        if override.startswith("~"):
            return (
                override,
                "cannot be taken out; target=agent, dataset, dt, pairs, activations or dictionary ends "
                "before it",
            )
        if "Multiple values" in str(error) or "force-add" in str(error):
            return override, f"the defaults have it already: {override.lstrip('+')}"
        known = sorted({p.stem for folder in folders for p in (folder / group).glob("*.yaml")})
        choices = override.split("=", 1)[-1].strip("[] ").split(",")
        wrong = next((c.strip() for c in choices if c.strip() not in known), None)
        if wrong is not None:
            return name, f"no config {wrong!r} in conf/{group}{suggest(wrong, known)}"
        if "@" in name:
            return override, f"the defaults have no {name}; to add it there: +{override}"
    from hydra.errors import OverrideParseException

    message = said(error)
    if "multirun" in str(error):
        return name, f"several values make a sweep: add -m (dtx run -m {override}); a list is [1,2]"
    if isinstance(error, OverrideParseException):
        what = message.removeprefix("LexerNoViableAltException: ").removeprefix(override)
        hint = "quote a value that holds special characters: 'name=\"value\"'"
        return override, f"cannot be read{': ' if what else ''}{what}; {hint}"
    if "Could not override" in message or "not in struct" in message:
        node: Any = config
        for leaf in name.split("."):
            if not isinstance(node, DictConfig) or leaf not in node:
                known = [k for k in node if k[0] != "_"] if isinstance(node, DictConfig) else []
                return name, f"no such field{suggest(leaf, known)}"
            node = node._get_node(leaf)
    return override, message
