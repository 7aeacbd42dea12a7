"""Artefacts on disk: lock, commit, verify, set aside.

``store/<stage>-<key>/`` holds a stage's files and ``done.json``, which is written last and lists every
file with size and SHA-256. Work happens in ``store/.work/<stage>-<key>/`` under a lock and is moved into
place by one rename, so an artefact is whole or absent. An interrupted stage's work folder stays: the
next run of the same stage goes on in it. With a remote store, artefacts that are not here are pulled from
there and new ones are pushed (``dtx/store/remote.py``).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.markup import escape

from dtx.beside import building
from dtx.errors import UserError
from dtx.files import link_in, read_json
from dtx.progress import console, remove_progress
from dtx.report import sync_folder, write_atomically
from dtx.stage import CHECKPOINT, Stage, read_from
from dtx.store import aside, locks, sessions
from dtx.store.aside import LOCKS, PULL, WORK
from dtx.store.checksums import DONE, check_record, damage, files_in, files_of
from dtx.store.label import Labelled
from dtx.store.remote import Remote, RemoteError
from dtx.store.sessions import SESSIONS

if TYPE_CHECKING:
    from dtx.config.compose import StoreConfig

_current: Store | None = None


def current() -> Store:
    """The store in use: set by the runner or by :func:`use`, else ``./store``."""
    return _current or Store(Path("store"))


def use(store: Store) -> Store:
    """Make ``store`` the one that ``Stage.path`` and ``load()`` read."""
    global _current
    _current = store
    return store


@contextmanager
def used(store: Store) -> Iterator[Store]:
    """Have ``store`` in use, and afterwards the one before it."""
    global _current
    before = _current
    try:
        yield use(store)
    finally:
        _current = before


class Store:
    """A folder of artefacts, and the remote store that it shares them with.

    Args:
        root: The folder; made when first written to.
        remote: fsspec URL or path of the remote store; None if there is none.
    """

    def __init__(self, root: Path | str, remote: str | None = None):
        self.root = Path(root).absolute()
        if self.root.exists() and not self.root.is_dir():
            raise UserError(f"{self.root} is not a folder, and a store is one")
        self.remote = Remote(remote) if remote else None
        self.only_here: set[str] = set()
        """Labels of stages that are made here even if the remote store has them."""
        self._verified: dict[str, tuple] = {}
        if self.remote and (there := self.remote.folder) is not None:
            if there.is_relative_to(self.root.resolve()):
                what = "store.path itself" if there == self.root.resolve() else "inside store.path"
                raise UserError(f"store.remote: {remote} is {what}; give another place")
            if there == Path.cwd():
                raise UserError(
                    f"store.remote: {remote} is the working folder: artefacts would lie among your files; "
                    "give a folder of their own"
                )

    @classmethod
    def of(cls, config: StoreConfig) -> Store:
        """The store that a config names."""
        return cls(config.path, config.remote)

    def reach(self) -> None:
        """Check that the remote store answers, before anything is written here.

        Raises:
            UserError: It does not, with the reason.
        """
        if self.remote:
            self.remote.has("")

    def folder(self, stage: Labelled) -> Path:
        """Where the stage's artefact is or will be."""
        return self.root / stage.label

    def where(self, stage: Labelled) -> Literal["local", "remote"] | None:
        """Where the committed stage is. Reads no content: see :meth:`verify`."""
        if self._is_here(stage):
            return "local"
        return "remote" if self._is_there(stage) else None

    def has(self, stage: Labelled) -> bool:
        """Whether the stage is committed, here or on the remote store."""
        return self.where(stage) is not None

    def _is_here(self, stage: Labelled) -> bool:
        return (self.folder(stage) / DONE).is_file()

    def _is_there(self, stage: Labelled, *, ask_again: bool = False) -> bool:
        if self.remote is None or stage.label in self.only_here:
            return False
        return self.remote.has(stage.label, ask_again=ask_again)

    def done(self, stage: Labelled) -> dict[str, Any]:
        """The stage's ``done.json``: config, inputs, files, versions, seconds, MLflow run id."""
        path = self.folder(stage) / DONE
        try:
            if self.remote and self.where(stage) == "remote":
                return json.loads(self.remote.record(stage.label))
            if path.is_symlink() or path.parent.is_symlink():
                raise ValueError("its content is somewhere else")
            record = check_record(read_json(path))
            files_in(record)
            return record
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise self._corrupt(stage, DONE, "is missing, a link, or not readable") from None

    def artefact(self, stage: Labelled) -> Path:
        """Folder of a committed artefact whose files have been verified; pulled if need be.

        Raises:
            UserError: Not there, or a file is missing or changed.
        """
        if not self.has(stage):
            raise UserError(
                f"{stage.label} is not in the store {self.root}: run it first (`dtx run`)"
            )
        self.fetch(stage)
        self.verify(stage)
        return self.folder(stage)

    def verify(self, stage: Labelled) -> None:
        """Compare every file of a stage that is here with its size and SHA-256 in ``done.json``.

        Files unchanged since this process last read them are not read again.

        Raises:
            UserError: Names the file and the command that mends it.
        """
        folder = self.folder(stage)
        if (link := link_in(folder)) is not None:
            raise self._corrupt(stage, link.relative_to(folder).as_posix(), "is a link")
        for name, (size, digest) in self.done(stage)["files"].items():
            path = folder / name
            seen = _identity(path)
            if seen and seen[0] == size and self._verified.get(str(path)) == seen:
                continue
            if wrong := damage(path, size, digest):
                raise self._corrupt(stage, name, wrong)
            self._verified[str(path)] = seen

    def _corrupt(self, stage: Labelled, name: str, what: str) -> UserError:
        return UserError(
            f"corrupt artefact: {self.folder(stage) / name} {what}; "
            f"`dtx invalidate {stage.label}` sets it aside, and the next run makes it again"
        )

    @contextmanager
    def work(self, stage: Labelled) -> Iterator[Path | None]:
        """Hold the stage's lock and give its work folder, or None if another process finished it meanwhile.

        Only one process works on a stage; the others wait and print which one they wait for.
        """
        with self.lock(stage):
            if self._is_here(stage) or self._pulled_meanwhile(stage):
                yield None
                return
            aside.own(self.root, WORK)
            work = aside.own(self.root, f"{WORK}/{stage.label}")
            aside.without_links(work)
            sessions.begin(work)
            try:
                yield work
            finally:
                sessions.end(work)

    def begun(self, stage: Labelled) -> bool:
        """Whether an interrupted session left files to go on from."""
        return sessions.begun(self._work(stage))

    def earlier_seconds(self, stage: Labelled) -> float:
        """How long the stage was worked on in sessions that were interrupted, before the present one."""
        return sum(sessions.ended(self._work(stage)))

    def interruptions(self, stage: Labelled) -> int:
        """How many sessions on the stage were interrupted."""
        return len(sessions.ended(self._work(stage)))

    def lock(self, stage: Labelled) -> AbstractContextManager[None]:
        """Hold the stage's lock during a block; wait for it if another process has it."""
        return locks.held(self._locks, stage.label)

    def locked(self, label: str) -> bool:
        """Whether a living process works on the stage. Never waits."""
        return locks.locked(self._locks, label)

    def holder(self, label: str) -> dict[str, Any] | None:
        """Who works on the stage now: ``pid``, ``host``, ``since``, ``process``; None if nobody does."""
        return locks.holder(self._locks, label)

    @property
    def _locks(self) -> Path:
        return self.root / LOCKS

    def _work(self, stage: Labelled) -> Path:
        return self.root / WORK / stage.label

    def commit(self, stage: Labelled, work: Path, record: dict[str, Any]) -> Path:
        """Write ``done.json`` and move the work folder into place. Call while holding the lock."""
        for name in (CHECKPOINT, SESSIONS):
            (work / name).unlink(missing_ok=True)
        remove_progress(work)
        for half in work.rglob("*.partial"):  # of a process killed between writing and renaming
            half.unlink()
        files = files_of(work)
        return self._place(stage, work, json.dumps({**record, "files": files}, indent=1) + "\n")

    def _place(self, stage: Labelled, work: Path, done: str) -> Path:
        aside.without_links(work)
        write_atomically(work / DONE, done)
        final = self.folder(stage)
        if final.exists():  # a folder without done.json, made by a user: never overwrite it
            self.set_aside(final)
        aside.share_script(self.root, work)
        work.rename(final)
        sync_folder(self.root)
        return final

    def amend(self, stage: Labelled, values: dict[str, Any]) -> None:
        """Add values to ``done.json`` that are known only after the commit (the tracking run)."""
        path = self.folder(stage) / DONE
        write_atomically(path, json.dumps({**self.done(stage), **values}, indent=1) + "\n")

    def replace_folder(
        self, stage: Labelled, name: str, write: Callable[[Path], None]
    ) -> list[str]:
        """Replace one folder of a committed artefact, its figures; all other files stay as they are.

        A kill in between leaves an artefact that verifies, at worst without the files of this folder. A copy
        on the remote store is not changed.

        Args:
            stage: Whose artefact; it must be here.
            name: Of the folder in the artefact.
            write: Writes the new content of the folder into the copy of the artefact that it is given.

        Returns:
            The files now in the folder, relative to the artefact.

        Raises:
            UserError: A file of the artefact is missing or has changed.
        """
        with self.lock(stage), building(aside.own(self.root, WORK)) as scratch:
            self.verify(stage)
            folder, copy = self.folder(stage), scratch / stage.label
            files = self.done(stage)["files"]
            for file in (*files, DONE):  # not by shutil.copytree, which hides the system's error
                (copy / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(folder / file, copy / file)
            write(copy)
            rest = {n: known for n, known in files.items() if not n.startswith(f"{name}/")}
            self.amend(stage, {"files": rest})  # until the new ones are there, none are promised
            if (folder / name).exists():
                (folder / name).rename(scratch / "before")
            if (copy / name).is_dir():
                aside.share_script(self.root, copy)
                (copy / name).rename(folder / name)
            new = files_of(folder, name)
            self.amend(stage, {"files": dict(sorted({**rest, **new}.items()))})
            return list(new)

    # --- the remote store ----------------------------------------------------------------------------

    def fetch(self, stage: Labelled) -> Path:
        """Pull the stage if it is on the remote store only.

        Raises:
            UserError: The remote store does not answer, or a file there is not what was pushed.
        """
        if not self._is_here(stage) and self._is_there(stage):
            with self.lock(stage):
                if not self._is_here(stage):
                    self._pull(stage)
        return self.folder(stage)

    def push(self, stage: Labelled) -> bool:
        """Push a stage that is here and not on the remote store; do not hold its lock.

        Returns:
            Whether it was pushed.

        Raises:
            RemoteError: It could not be pushed; it stays here, and the next push goes on.
        """
        if self.remote is None or not self._is_here(stage) or self.remote.has(stage.label):
            return False
        with self.lock(stage):
            self.verify(stage)
            folder = self.folder(stage)
            return self.remote.push(stage.label, folder, (folder / DONE).read_bytes())

    def push_or_warn(self, stage: Labelled) -> None:
        """Push a stage; print a warning if that fails: :meth:`push_all` tries again."""
        try:
            self.push(stage)
        except RemoteError as error:
            console.print(f"[yellow]{stage.label} is kept here only:[/] {escape(str(error))}")

    def push_all(self, stages: Iterable[Labelled]) -> None:
        """Push every stage that is here and not on the remote store.

        Raises:
            UserError: One cannot be pushed: how many are here only, and what to do.
        """
        if self.remote is None:
            return
        here = [s for s in stages if self._is_here(s) and not self.remote.has(s.label)]
        for i, stage in enumerate(here):
            try:
                self.push(stage)
            except RemoteError as error:
                raise UserError(
                    f"{len(here) - i} finished stages are in {self.root} only (nothing is lost; the same "
                    f"command pushes them when the remote store is there again): {error}"
                ) from error

    def _pulled_meanwhile(self, stage: Labelled) -> bool:
        """Whether another machine has pushed the stage since the listing; then it is here now."""
        try:
            if not self._is_there(stage, ask_again=True):
                return False
        except RemoteError as error:  # the work can be done without it
            console.print(f"[yellow]{escape(str(error))}[/]")
            return False
        self._pull(stage)
        return True

    def _pull(self, stage: Labelled) -> Path:
        """Call while holding the lock. Files arrive beside the stage's work folder and are all verified."""
        assert self.remote is not None
        work = self._work(stage)
        arriving = work.with_name(f"{stage.label}{PULL}")
        aside.own(self.root, WORK)
        aside.without_links(arriving)
        record = self.remote.pull(stage.label, arriving)
        if work.exists():  # an unfinished session of the stage that has been pulled
            self.set_aside(work)
        return self._place(stage, arriving, record.decode())

    # --- set aside ---------------------------------------------------------------------------------

    def invalidate(self, prefix: str) -> list[Path]:
        """Set aside all artefacts and unfinished work of a prefix: see :func:`dtx.store.aside.invalidate`."""
        return aside.invalidate(self.root, prefix)

    def set_aside(self, folder: Path) -> Path:
        """Move a folder to ``store/.invalid/``; nothing is deleted. Call while holding its lock."""
        return aside.set_aside(self.root, folder)


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Size, time and inode, which change when the file is written; None if it is missing."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


class _InUse:
    """Finds artefacts in whichever store is in use at that time."""

    def artefact(self, stage: Stage) -> Path:
        return current().artefact(stage)


read_from(_InUse())
