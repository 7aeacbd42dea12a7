"""What a user gives and nothing would read: told instead of passed over."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dtx.config.build import ConfigError
from dtx.text import suggest


def refuse_unread(folders: Sequence[Path], choices: Mapping[str, Any]) -> None:
    """Refuse files of the user's own that would be passed over: another folder has one of the same name.

    Args:
        folders: dtx's own configs, then the user's in the order in which they are searched.
        choices: The chosen configs by group: a name, or a list of names.

    Raises:
        ConfigError: Each file, and what to do.
    """
    ours, *own = folders
    errors = []
    for folder in own:
        top = folder / "config.yaml"
        if top.exists() and folder.resolve() != ours.resolve():
            what = "is not read: defaults of your own stand in a preset, experiment/NAME.yaml"
            errors.append((str(top), what))
    for group, chosen in choices.items():
        for name in chosen if isinstance(chosen, list) else [chosen]:
            places = [folder / group.lstrip("/") / f"{name}.yaml" for folder in folders]
            found = [place for place in places if place.exists()]
            for other in found[1:]:
                if found[0].read_bytes() != other.read_bytes():
                    first = "dtx's own" if found[0].is_relative_to(ours) else str(found[0])
                    what = f"{first} is read for {group}={name}: rename yours"
                    errors.append((str(other), what))
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
