"""The configs to choose from, found as files: ``conf/GROUP/NAME.yaml``, and a user's own beside them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from dtx.config.compose import CONF
from dtx.errors import UserError
from dtx.text import suggest

_HEADER = re.compile(r"^#\s*@package\b")


@dataclasses.dataclass(frozen=True)
class Option:
    """One config of a group.

    Attributes:
        default: Whether the defaults list of ``config.yaml`` names it.
        own: Whether it is in the user's folder.
        hidden: Whether it is in the user's folder, but dtx has one of the same name, which takes precedence.
    """

    group: str
    name: str
    path: Path
    default: bool = False
    own: bool = False
    hidden: bool = False

    def text(self) -> str:
        """The first sentence of the comment at the top of the file."""
        lines = []
        for line in self.path.read_text(errors="replace").splitlines():
            if not line.startswith("#"):
                break
            if not _HEADER.match(line):
                lines.append(line.lstrip("# ").strip())
        return re.split(r"(?<=[.?!])\s+(?=[A-Z])", " ".join(lines))[0]


def own_configs() -> Path | None:
    """``./conf``, the default place of a user's own configs; None if it does not exist or holds dtx's own."""
    here = Path("conf")
    return here if here.is_dir() and here.resolve() != CONF.resolve() else None


def options(config_dir: Path | None = None) -> dict[str, list[Option]]:
    """All options by group, in the order of the defaults list; groups of a user's own come after.

    Raises:
        UserError: The user's folder does not exist.
    """
    if config_dir is not None and not config_dir.is_dir():
        raise UserError(f"no folder {config_dir} (--config-dir)")
    defaults = _defaults()
    known: dict[str, dict[str, Option]] = {group: {} for group in defaults}
    for folder in filter(None, (CONF, config_dir)):
        for path in sorted(p for p in folder.rglob("*.yaml") if p.is_file()):
            group = path.parent.relative_to(folder).as_posix()
            if group == ".":
                continue
            here = known.setdefault(group, {})
            hidden = folder is not CONF and path.stem in here
            here[path.stem + "\0" * hidden] = Option(
                group=group,
                name=path.stem,
                path=path,
                default=path.stem in defaults.get(group, ()) and not hidden,
                own=folder is not CONF,
                hidden=hidden,
            )
    return {group: list(here.values()) for group, here in known.items() if here}


def find(place: str, config_dir: Path | None = None) -> Option:
    """The option at ``GROUP/NAME``.

    Raises:
        UserError: There is none, with a suggestion.
    """
    group, _, name = place.removesuffix(".yaml").rpartition("/")
    known = options(config_dir)
    if not group:
        raise UserError(f"{place}: give GROUP/NAME as `dtx ls` shows them, such as agent/ppo")
    check_group(group, known)
    for option in known[group]:
        if option.name == name:
            return option
    raise UserError(f"{place}: no such config{suggest(name, [o.name for o in known[group]])}")


def check_group(group: str, known: dict[str, list[Option]]) -> None:
    """Raise a UserError with a suggestion if there is no such group."""
    if group not in known:
        raise UserError(f"{group}: no such group of configs{suggest(group, list(known))}")


def _defaults() -> dict[str, tuple[str, ...]]:
    """The choices of ``config.yaml`` by group."""
    from omegaconf import OmegaConf

    choices: dict[str, tuple[str, ...]] = {}
    plain: dict = OmegaConf.to_container(OmegaConf.load(CONF / "config.yaml"))  # type: ignore[assignment]
    for entry in plain["defaults"]:
        if isinstance(entry, dict):
            (group, chosen), *_ = entry.items()
            chosen = chosen if isinstance(chosen, list) else [chosen]
            choices[group.removeprefix("override ").lstrip("/")] = tuple(c for c in chosen if c)
    return choices
