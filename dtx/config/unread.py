"""What a user gives and nothing would read: told instead of passed over."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dtx.config.build import ConfigError
from dtx.text import suggest


def refuse_unread(own: Path | None, ours: Path, choices: Mapping[str, Any]) -> None:
    """Refuse files of the user's own that would be passed over: dtx's of the same name come first.

    Args:
        own: The user's own configs.
        ours: Those of dtx.
        choices: The chosen configs by group: a name, or a list of names.

    Raises:
        ConfigError: Each file, and what to do.
    """
    if own is None:
        return
    errors = []
    top = own / "config.yaml"
    if top.exists() and own.resolve() != ours.resolve():
        what = "is not read: defaults of your own stand in a preset, experiment/NAME.yaml"
        errors.append((str(top), what))
    for group, chosen in choices.items():
        for name in chosen if isinstance(chosen, list) else [chosen]:
            first, theirs = (f / group.lstrip("/") / f"{name}.yaml" for f in (ours, own))
            if first.exists() and theirs.exists() and first.read_bytes() != theirs.read_bytes():
                what = f"dtx has a {group}={name} itself, which is read; rename yours"
                errors.append((str(theirs), what))
    if errors:
        raise ConfigError(errors)


def without_effect(raw: Mapping[str, Any], known: set[str]) -> Iterator[tuple[str, str]]:
    """Names at the top of a config that nothing reads: misspelt ones, of a preset or an override.

    Args:
        raw: The composed config, references unresolved. A name that one of them refers to is read.
        known: Names that dtx reads.
    """
    referred = set(re.findall(r"\$\{\s*([A-Za-z_]\w*)", repr(raw)))
    for name in raw:
        if name not in known | referred:
            yield name, f"nothing reads it{suggest(name, sorted(known - {'hydra'}))}"
