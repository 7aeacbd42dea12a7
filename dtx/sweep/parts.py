"""What a launcher is given: a function that runs one part of a sweep, in this process or in a worker."""

from __future__ import annotations

import traceback
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rich.markup import escape

from dtx.config.compose import Experiment, OnError, experiment
from dtx.config.own_classes import look_in
from dtx.errors import Interrupted, Pruned, UserError
from dtx.progress import console, copied
from dtx.running.outcome import StageOutcome
from dtx.running.output import write_config
from dtx.running.processes import end_with, process_tags
from dtx.running.runner import StagesFailed, run
from dtx.running.signals import raise_signal_before
from dtx.sweep.workers import marked_as_running
from dtx.text import lasting_output

if TYPE_CHECKING:
    from omegaconf import DictConfig

STOPPED = "stopped"
"""A file in a sweep's folder: parts that have not begun are not run."""


class Watched(Protocol):
    """Watches a job while it runs, in the process that runs it; it can be pickled."""

    def watching(self) -> AbstractContextManager[None]:
        """The job runs in the block, which may end it with :class:`dtx.errors.Pruned`."""
        ...


@dataclass
class SweepPart:
    """The unit that is launched: a job, or one stage for all jobs that share it.

    Attributes:
        job: The job whose config is composed.
        only: Label of the shared stage; None for the whole job.
        swept: Swept fields to show on the stages' runs.
        folder: Where it leaves its log, and a job its config as well.
        watch: Watches the part; None: nobody does.
        failed: Stages that failed before, with their errors; they are not run again.
    """

    job: int
    only: str | None
    swept: dict[str, str]
    folder: Path
    watch: Watched | None = None
    failed: dict[str, str] = field(default_factory=dict)


@dataclass
class LaunchedParts:
    """Function that a launcher calls for each part, in this process or another one; it can be pickled.

    Returns a dict of plain values and never raises: launchers hide exceptions.

    Attributes:
        parts: The parts that are launched together.
        first: The launcher's number of the first part.
        folder: The sweep's.
        log: Name of each part's log.
        hydra: Hydra's settings as the user gave them, by name, where the launcher has others.
        parent: MLflow run of the sweep; None without tracking.
        on_error: Whether a failure stops the parts that have not begun.
        only_here: Stages that are made here though the remote store has them.
        ends_with: Whether the launcher's workers are children of the process that made this object: they
            end when it has died.
        process: That process, as ``dtx.running.processes`` names it.
        base: Its working directory.
    """

    parts: list[SweepPart]
    first: int
    folder: Path
    log: str
    hydra: dict[str, Any]
    parent: str | None
    on_error: OnError
    only_here: frozenset[str]
    ends_with: bool = False
    process: str = field(default_factory=lambda: process_tags()["dtx.process"])
    base: Path = field(default_factory=Path.cwd)

    def __call__(self, config: DictConfig) -> dict[str, Any]:
        """Run the part whose number is in Hydra's config."""
        from hydra.core.hydra_config import HydraConfig

        look_in(self.base)  # as dtx.cli does, but not in a worker
        hydra = HydraConfig.get()
        part = self.parts[int(hydra.job.num) - self.first]
        log, overrides = part.folder / self.log, list(hydra.overrides.task)
        if self.process == process_tags()["dtx.process"]:
            return self._run_part(part, config, overrides, log)
        if self.ends_with:
            end_with(self.process)
        with lasting_output(), marked_as_running(self.folder, int(hydra.job.num), log):
            try:
                return self._run_part(part, config, overrides, log)
            except Interrupted as signal:
                error = f"its worker was told to end ({signal})"
                return self._failed({"stages": [], "error": error, "log": str(log)})

    def _run_part(
        self, part: SweepPart, config: DictConfig, overrides: list[str], log: Path
    ) -> dict[str, Any]:
        result: dict[str, Any] = {"stages": [], "error": "", "log": str(log)}
        if (self.folder / STOPPED).exists():
            return {**result, "status": "skipped", "error": "after a failure (on_error=stop)"}
        name = ", ".join(f"{k}={v}" for k, v in part.swept.items()) or "all jobs"
        name += f": shared stage {part.only}" if part.only else ""
        with copied() as copy:
            copy.keep(log)
            console.rule(escape(name), align="left")
            try:
                if part.only is None:
                    self._leave(part, config)
                composed = experiment(config, overrides)
                store = replace(composed.store, path=self.base / composed.store.path)
                with part.watch.watching() if part.watch else nullcontext():
                    outcomes = self._run(replace(composed, store=store), part)
            except Pruned as why:
                console.print(f"pruned: {why}", soft_wrap=True)
                return {**result, "status": "pruned"}
            except StagesFailed as error:
                outcomes, result["error"] = error.outcomes, str(error)
            except UserError as error:
                return self._failed({**result, "error": str(error)})
            except Exception as error:  # a defect in one job must not cost the others
                raise_signal_before(error)
                console.print(traceback.format_exc(), markup=False, soft_wrap=True)
                return self._failed({**result, "error": f"{type(error).__name__}: {error}"})
        result["stages"] = [[o.stage.label, o.status, o.error] for o in outcomes]
        return self._failed(result) if result["error"] else {**result, "status": "ran"}

    def _leave(self, part: SweepPart, config: DictConfig) -> None:
        """Leave a job's config in its folder; Hydra itself would write passwords, too."""
        from hydra.core.hydra_config import HydraConfig

        changes = {**self.hydra, "job.num": part.job, "job.id": str(part.job)}
        write_config(part.folder, config, HydraConfig.get(), changes)

    def _run(self, composed: Experiment, part: SweepPart) -> list[StageOutcome]:
        return run(
            composed,
            only=part.only,
            parent=self.parent,
            swept=part.swept,
            failed=part.failed,
            only_here=self.only_here,
        )

    def _failed(self, result: dict[str, Any]) -> dict[str, Any]:
        if self.on_error is OnError.STOP:
            (self.folder / STOPPED).touch()
        return {**result, "status": "failed"}
