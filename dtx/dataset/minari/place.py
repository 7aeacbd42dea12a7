"""Where Minari's datasets are on disk: put there whole, and read only if they hold all their content."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dtx.beside import building, put
from dtx.dataset.minari.files import minari
from dtx.errors import UserError
from dtx.files import refuse_links

if TYPE_CHECKING:
    import h5py

_NAMESPACE = "namespace_metadata.json"
"""Minari's note in a folder that makes it a namespace."""


@contextmanager
def folder_of_datasets(root: Path | None) -> Iterator[None]:
    """Minari reads and writes below ``root`` meanwhile; None leaves its own choice."""
    if root is None:
        yield
        return
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = str(root.absolute())
    try:
        yield
    finally:
        if before is None:
            del os.environ["MINARI_DATASETS_PATH"]
        else:
            os.environ["MINARI_DATASETS_PATH"] = before


def place_of(name: str) -> Path:
    """Folder of a dataset, whether or not it is there; of an empty name, that of all datasets."""
    from minari.storage.datasets_root_dir import get_dataset_path

    return get_dataset_path(name)


def put_dataset(scratch: Path, name: str, root: Path, advice: str) -> bool:
    """Move a dataset below ``scratch`` to its place below ``root``, as :func:`dtx.beside.put` does.

    The notes of the namespaces above it come along, as far as they are not there yet.
    """
    for above in list(Path(name).parents)[:-1]:
        note = above / _NAMESPACE
        if (scratch / note).exists() and not (root / note).exists():
            put(scratch / note, root / note, advice, root=root)
    return put(scratch / name, root / name, advice, root=root)


def fetch(name: str) -> None:
    """Download a dataset that is not there; a killed download leaves nothing that looks like one."""
    place, root = place_of(name), place_of("")
    if place.exists():
        return
    with building(place, root) as scratch:
        with folder_of_datasets(scratch):
            minari().download_dataset(name)
        put_dataset(scratch, name, root, "remove it to fetch it again")


def refuse_outside(dataset: Path) -> None:
    """Check that a Minari dataset on disk holds its episodes itself.

    HDF5 can take the content of a dataset from any file of this machine, and its library follows unasked.

    Args:
        dataset: The folder that is named by the id.

    Raises:
        UserError: Something in it is a link, or lies in another file.
    """
    refuse_links(dataset)
    path = dataset / "data" / "main_data.hdf5"
    if not path.is_file():
        return
    import h5py

    try:
        with h5py.File(path, "r") as file:
            for name, what in _outside(file):
                raise UserError(
                    f"{path}: {name} {what}, and dtx reads only what the file holds itself"
                )
    except (OSError, RuntimeError, KeyError) as error:
        raise UserError(f"{path}: is damaged ({str(error).splitlines()[0]})") from None


def _outside(file: h5py.File) -> Iterator[tuple[str, str]]:
    """Names in an HDF5 file whose content is elsewhere, and how; nothing is followed."""
    from h5py import h5d, h5g, h5l, h5o

    todo, seen = [(file.id, "")], set()
    while todo:
        group, place = todo.pop()
        for name in group:
            shown = f"{place}/{name.decode(errors='replace')}"
            if group.links.get_info(name).type != h5l.TYPE_HARD:
                yield shown, "is a link"
                continue
            found = h5o.open(group, name)
            if isinstance(found, h5d.DatasetID):
                made = found.get_create_plist()
                if made.get_external_count():
                    yield shown, "has its numbers in another file"
                if made.get_layout() == h5d.VIRTUAL:
                    yield shown, "is put together from other datasets"
            elif isinstance(found, h5g.GroupID):
                address = h5o.get_info(found).addr
                if address not in seen:  # a group can hold itself
                    seen.add(address)
                    todo.append((found, shown))
