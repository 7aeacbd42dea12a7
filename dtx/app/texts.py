"""A scene in words that dtx reads: its pairs file, and the commands that compute a panel's numbers again."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from dtx.app.models import Entry
from dtx.app.pairing import NAME, declared_pair
from dtx.errors import UserError
from dtx.pairs.as_yaml import as_yaml

if TYPE_CHECKING:
    from dtx.app.panels import Panel
    from dtx.app.play import Played
    from dtx.app.scene import OpenPanel

_NOT_OF_THE_MODEL = (
    "analysis",
    "target",
    "tracking",
    "store",
    "pairs",
    "hydra",
    "on_error",
    "on_drift",
)
"""First words of overrides that choose no model."""


def pairs_file(played: Played, contrast: tuple[int, int], config_dir: Path | None) -> str:
    """``conf/pairs/scene.yaml``: the scene's pair as a pairs file.

    Raises:
        UserError: The scene has no edit, or its environment is none of a config.
    """
    return as_yaml(declared_pair(played, contrast), NAME, config_dir)


def command(entry: Entry, panel: Panel | None, opened: OpenPanel, config_dir: Path | None) -> str:
    """The command that computes a panel's numbers of a model again with the scene's pairs file; comments say
    what is left open.

    Raises:
        UserError: The panel is none, or its numbers are no analysis' of a pair.
    """
    if panel is None:
        raise UserError(f"there is no panel {opened.name!r}")
    wanted = panel.overrides(panel.parameters(opened.parameters))
    if not wanted:
        raise UserError(
            f"{panel.name}: no analysis of a pairs file computes these numbers; in Python "
            f"{panel.module.SOURCE} does"
        )
    chosen = overrides_of(entry, config_dir)
    words = shlex.join(["dtx", "run", *chosen, f"pairs={NAME}", *wanted])
    lines = [f"# the pairs file goes to conf/pairs/{NAME}.yaml", words]
    if not chosen:
        lines.insert(
            0, f"# no recorded overrides make {entry.label}: choose the model (dt=..., seed=...)"
        )
    elif not makes(entry, chosen, config_dir):
        lines.insert(
            0,
            f"# these overrides make another model than {entry.label} today: choose it (dt=..., seed=...)",
        )
    return "\n".join(lines) + "\n"


def overrides_of(entry: Entry, config_dir: Path | None) -> list[str]:
    """The overrides under which a model was made, as its record has them, without what chooses no model."""
    from dtx.store.inventory import artefact

    record = artefact(entry.folder).record
    kept = []
    for override in record.get("overrides", []):
        first = str(override).lstrip("+~").partition("=")[0].partition(".")[0]
        if first not in _NOT_OF_THE_MODEL:
            kept.append(str(override))
    return kept


def makes(entry: Entry, overrides: list[str], config_dir: Path | None) -> bool:
    """Whether overrides choose a model: the stage that they describe has its label."""
    from dtx.config.compose import compose, experiment

    wanted = [*overrides, "target=dt"]
    try:
        (stage,) = experiment(compose(wanted, config_dir), wanted).targets.values()
    except (UserError, ValueError):
        return False
    return stage.label == entry.label
