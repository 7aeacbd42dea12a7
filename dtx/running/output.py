"""The folder of a run, or of a sweep's job, as Hydra's users expect it: ``.hydra`` and a log.

    outputs/DATE/TIME/dtx.log
    outputs/DATE/TIME/.hydra/config.yaml, hydra.yaml, overrides.yaml

Users and passwords in URLs are left out of all files.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dtx.config.build import ConfigError
from dtx.errors import UserError
from dtx.report import write_atomically
from dtx.text import discreet, first_line

if TYPE_CHECKING:
    from dtx.progress import Log


_DEFAULT = "outputs/${now:%Y-%m-%d}/${now:%H-%M-%S}"


@dataclass(frozen=True)
class Output:
    """Where a run leaves its log and its config.

    Attributes:
        config: With Hydra's settings.
        folder: Of the run.
        log: Name of the log in it.
        named: Whether the user named the folder. Another one gets a number behind its name if it is there.
    """

    config: DictConfig
    folder: Path
    log: str
    named: bool

    @classmethod
    def of_run(cls, config: DictConfig) -> Output:
        """Of a single run.

        Args:
            config: With Hydra's settings.

        Raises:
            ConfigError: A name that cannot be resolved.
        """
        named = OmegaConf.to_container(config.hydra.run) != {"dir": _DEFAULT}
        folder = Path(setting(config, "hydra.run.dir")).expanduser().absolute()
        return cls(config, folder, log_name(config), named)

    def write(self, log: Log) -> None:
        """Make the folder with the config's files, and keep the log in it.

        Raises:
            UserError: The folder cannot be written.
        """
        try:
            folder = made(self.folder, new=not self.named)
            log.keep(folder / self.log)
            own = [str(name) for name in self.config if name != "hydra"]
            write_config(folder, OmegaConf.masked_copy(self.config, own), self.config.hydra)
        except OSError as error:
            what = f"cannot write {error.filename or self.folder}: {error.strerror}"
            raise UserError(f"{what}; name another place: hydra.run.dir=FOLDER") from None


def log_name(config: DictConfig) -> str:
    """Name of a log: that of the job, ``dtx`` unless the user named it.

    Raises:
        ConfigError: It is no name of a file.
    """
    name = setting(config, "hydra.job.name")
    if "/" in name:
        raise ConfigError([("hydra.job.name", f"names the log, so that {name!r} cannot be: no /")])
    return f"{name}.log"


def write_config(
    folder: Path, config: DictConfig, hydra: DictConfig, changes: Mapping[str, Any] | None = None
) -> None:
    """Write ``.hydra`` into the folder of a run, unless ``hydra.output_subdir`` is null.

    Args:
        folder: Of the run.
        config: Of the experiment, without Hydra's settings.
        hydra: Those.
        changes: Values of Hydra's settings by name (``job.num``) that are others than in ``hydra``.
    """
    hydra = OmegaConf.create(OmegaConf.to_container(hydra))  # type: ignore[arg-type]
    changes = {**(changes or {}), "runtime.output_dir": str(folder).replace("${", r"\${")}
    for name, value in changes.items():
        OmegaConf.update(hydra, name, value)
    if hydra.output_subdir is None:
        return
    place = folder / hydra.output_subdir
    place.mkdir(parents=True, exist_ok=True)
    write_atomically(place / "config.yaml", in_yaml(config))
    write_atomically(place / "hydra.yaml", in_yaml(OmegaConf.create({"hydra": hydra})))
    write_atomically(place / "overrides.yaml", in_yaml(hydra.overrides.task))


def setting(config: DictConfig, name: str) -> str:
    """A setting of Hydra's with its references resolved, ``${hydra:...}`` among them.

    Raises:
        ConfigError: It refers to what is not there, or is empty.
    """
    known = HydraConfig.instance()
    before, known.cfg = known.cfg, None
    try:
        known.set_config(config)
        value = OmegaConf.select(config, name)
    except (OmegaConfBaseException, ValueError) as error:
        raise ConfigError([(name, first_line(error))]) from None
    finally:
        known.cfg = before
    if not isinstance(value, (str, int, float)) or not str(value).strip():
        raise ConfigError([(name, "needs a name")])
    return str(value)


def made(folder: Path, *, new: bool) -> Path:
    """Make a folder; with ``new`` never one that is there: two commands of one second have one each."""
    if not new:
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        path = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise AssertionError("unreachable")


def in_yaml(config: Any) -> str:
    """A config as YAML, references unresolved, without what lets somebody in."""
    return OmegaConf.to_yaml(OmegaConf.create(_discreet(OmegaConf.to_container(config))))


def _discreet(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _discreet(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_discreet(inner) for inner in value]
    return discreet(value) if isinstance(value, str) else value
