"""Setting folders of a store aside: they are moved to ``.invalid``, and nothing is deleted."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path

from dtx import pages
from dtx.errors import UserError
from dtx.files import link_in
from dtx.store import locks
from dtx.store.label import is_label
from dtx.store.needs import gate, in_use

WORK, LOCKS, INVALID = ".work", ".locks", ".invalid"
PULL = ".pull"
"""End of the name of a folder in which files of the remote store arrive."""


def label_of(folder: Path) -> str:
    """Label of the stage that a folder belongs to, and whose lock protects it."""
    return folder.name.removesuffix(PULL)


def own(root: Path, name: str) -> Path:
    """A folder of dtx's own in a store, made if need be.

    Raises:
        UserError: It is a link: what is moved or written there would be somewhere else.
    """
    folder = root / name
    if folder.is_symlink():
        raise _a_link(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def share_script(root: Path, folder: Path) -> None:
    """Have plotly's script in the store, once, if pages of an artefact that is being placed read it."""
    if pages.read_script(folder):
        pages.share_script(own(root, pages.FOLDER))


def without_links(folder: Path) -> None:
    """Check that what is written in a folder of the store is written there.

    Raises:
        UserError: It is or holds a link.
    """
    if (link := link_in(folder)) is not None:
        raise _a_link(link)


def _a_link(path: Path) -> UserError:
    return UserError(f"{path} is a link; dtx writes in a store itself only: remove the link")


def set_aside(root: Path, folder: Path) -> Path:
    """Move a folder of the store; the caller holds its stage's lock.

    Returns:
        The folder as it is now.
    """
    trash = own(root, INVALID)
    new = trash / f"{folder.name}.{time.time_ns()}"
    shutil.move(folder, new)
    return new


def invalidate(root: Path, prefix: str) -> list[Path]:
    """Set aside every artefact and unfinished work whose label starts with ``prefix``.

    All are moved, or none. Folders that are not named by a label are not dtx's and stay, whatever the prefix.

    Returns:
        The folders as they are now.

    Raises:
        UserError: A process works on one or needs one.
    """
    folders = [
        path
        for place in (root, root / WORK)
        for path in sorted(place.iterdir() if place.is_dir() else ())
        if path.name.startswith(prefix) and is_label(label_of(path)) and path.is_dir()
    ]
    if not folders:
        return []
    with contextlib.ExitStack() as stack:
        for label in sorted({label_of(folder) for folder in folders}):
            if not stack.enter_context(locks.free(root / LOCKS, label)):
                who = locks.in_words(locks.holder(root / LOCKS, label))
                raise _busy(label, f"{who} is working on it")
        stack.enter_context(gate(root))
        for use in in_use(root):
            for folder in folders:
                if use.living and label_of(folder) in use.labels:
                    raise _busy(label_of(folder), f"{use.who} needs it")
        return [set_aside(root, folder) for folder in folders]


def _busy(label: str, why: str) -> UserError:
    return UserError(f"{label}: {why}; wait for it or stop it first. Nothing was set aside")
