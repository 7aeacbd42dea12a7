"""The workers of Hydra's launchers: they end with the command, and the death of one costs only its own job.

Hydra's launchers raise the first error of a worker, and what the other jobs give is lost. Here such an error
becomes the result of its job. joblib kills all workers when one has died: the jobs of the others come back.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from dtx.errors import UserError
from dtx.files import read_json
from dtx.report import write_atomically
from dtx.running.processes import alive, end_with, process_tags
from dtx.text import first_line, near

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from hydra.plugins.launcher import Launcher

    _Returned = list[JobReturn | Exception | None]

RUNNING = ".running"
"""Folder in a sweep's: a file for each job that runs in a worker."""
_GRACE = 5.0  # seconds that workers have to end their runs
_KILLED = (
    "its worker was killed (SIGKILL, or a crash). The system does so when memory runs out: fewer jobs at a "
    "time need less. The same command goes on from the last checkpoint"
)


@contextlib.contextmanager
def marked_as_running(folder: Path, number: int, log: Path) -> Iterator[None]:
    """Leave a file in the sweep's folder while a job runs in this process; it stays after a kill."""
    mark = folder / RUNNING / str(number)
    mark.parent.mkdir(parents=True, exist_ok=True)
    content = {"process": process_tags()["dtx.process"], "log": str(log)}
    write_atomically(mark, json.dumps(content))
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)


def end_children(folder: Path) -> None:
    """Terminate the launcher's workers, and wait a little while they end their runs in MLflow."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.terminate()
    end = time.monotonic() + _GRACE
    while time.monotonic() < end and any(map(alive, _in_work(folder).values())):
        time.sleep(0.05)


def _in_work(folder: Path) -> dict[int, str]:
    """The process that has begun each job and not ended it, by the job's number."""
    found = {}
    for mark in (folder / RUNNING).glob("*[0-9]"):
        with contextlib.suppress(FileNotFoundError):  # it has just ended
            found[int(mark.name)] = read_json(mark)["process"]
    return found


def are_children(launcher: Launcher) -> bool:
    """Whether a launcher's workers are processes below this one. Jobs of a cluster live on without it."""
    return type(launcher).__name__ in ("JoblibLauncher", "LocalLauncher")


def launch(
    launcher: Launcher, jobs: Sequence[Sequence[str]], first: int, folder: Path
) -> list[dict[str, Any] | None]:
    """Run jobs through a launcher and wait for all.

    Args:
        launcher: Set up with its task, whose results are dicts with a ``status``.
        jobs: The overrides of each job.
        first: Hydra's number of the first job.
        folder: The sweep's.

    Returns:
        The result of each job; it has the status ``failed`` if its worker was killed or could not start. None
        for a job that did not end because the worker of another one was killed: it can be launched again.
    """
    ways = {
        "JoblibLauncher": _joblib,
        "LocalLauncher": _submitit,
        "SlurmLauncher": _submitit,
        "RayLauncher": _ray,
    }
    returned = ways.get(type(launcher).__name__, _others)(launcher, jobs, first, folder)
    return [_result(one, folder / RUNNING / str(first + i)) for i, one in enumerate(returned)]


def _result(returned: JobReturn | Exception | None, mark: Path) -> dict[str, Any] | None:
    log = read_json(mark)["log"] if mark.exists() else ""
    mark.unlink(missing_ok=True)
    if returned is None:
        return None
    try:
        if isinstance(returned, Exception):
            raise returned
        return returned.return_value
    except Exception as error:
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        text = _KILLED if log else kind + first_line(error)
        return {"status": "failed", "error": text, "log": log, "stages": []}


def _others(
    launcher: Launcher, jobs: Sequence[Sequence[str]], first: int, folder: Path
) -> _Returned:
    return list(launcher.launch(jobs, initial_job_idx=first))


def _submitit(
    launcher: Launcher, jobs: Sequence[Sequence[str]], first: int, folder: Path
) -> _Returned:
    import submitit

    results = submitit.Job.results

    def returned(self: submitit.Job) -> list:
        try:
            self.wait()
            if isinstance(self, submitit.LocalJob) and not self.paths.result_pickle.exists():
                # submitit would wait for 15 s, as the files of other machines may come late.
                raise submitit.core.utils.UncompletedJobError(
                    "the job's process has ended without a result"
                )
            return results(self)
        except submitit.core.utils.UncompletedJobError as error:
            return [UserError(f"{first_line(error)}; see {near(self.paths.stderr)}")]

    submitit.Job.results = returned  # which the launcher calls for each job
    try:
        return list(launcher.launch(jobs, initial_job_idx=first))
    finally:
        submitit.Job.results = results
        for pickle in folder.glob(".submitit/*/*.pkl"):  # what the jobs printed stays
            pickle.unlink(missing_ok=True)


def _ray(launcher: Launcher, jobs: Sequence[Sequence[str]], first: int, folder: Path) -> _Returned:
    import ray

    get = ray.get

    def returned(reference: ray.ObjectRef) -> Any:
        try:
            return get(reference)
        except ray.exceptions.RayError as error:
            return error

    ray.get = returned  # which the launcher calls for each job
    try:
        return list(launcher.launch(jobs, initial_job_idx=first))
    finally:
        ray.get = get


def _joblib(
    launcher: Launcher, jobs: Sequence[Sequence[str]], first: int, folder: Path
) -> _Returned:
    import joblib
    from joblib._parallel_backends import LokyBackend
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    returned: _Returned = [None] * len(jobs)

    class Backend(LokyBackend):
        """Keeps the results that came before a worker's death, and notes whose worker it was."""

        def configure(self, *arguments: Any, **options: Any) -> Any:
            # Workers that have no job yet have to end with this process as well.
            own = (process_tags()["dtx.process"],)
            return super().configure(*arguments, initializer=end_with, initargs=own, **options)

        def retrieve_result_callback(self, future: Future) -> list[JobReturn]:
            try:
                results = super().retrieve_result_callback(future)
            except TerminatedWorkerError as error:  # called before joblib kills the other workers
                for number, process in _in_work(folder).items():
                    if not alive(process):
                        returned[number - first] = error
                raise
            for result in results:
                returned[result.hydra_cfg.hydra.job.num - first] = result
            return results

        def abort_everything(self, ensure_ready: bool = True) -> None:
            end_children(folder)  # joblib would kill them
            super().abort_everything(ensure_ready)

    joblib.register_parallel_backend("loky", Backend)
    try:
        return list(launcher.launch(jobs, initial_job_idx=first))
    except TerminatedWorkerError:
        return returned
    finally:
        joblib.register_parallel_backend("loky", LokyBackend)
