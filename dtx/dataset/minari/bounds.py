"""How much a Minari dataset holds, before any of it is read: HDF5 describes what need not be there."""

from __future__ import annotations

from pathlib import Path

from dtx.errors import UserError

_MOST_INFLATED = 1100
"""Times that gzip, which Minari writes, makes a file smaller at most (1,032), with room for the rest."""


def refuse_inflated(folder: Path, name: str) -> None:
    """Check that the arrays of a dataset can be the content of its file.

    Chunks that were never written are read as zeros: a file of some kilobytes can declare any number of them.

    Args:
        folder: That holds ``main_data.hdf5``.
        name: Of the dataset, for messages.

    Raises:
        UserError: They are larger: which one; or the file cannot be read.
    """
    import h5py

    path = folder / "main_data.hdf5"
    if not path.is_file():  # Minari's other format, whose arrays are its files
        return
    most = path.stat().st_size * _MOST_INFLATED
    total = 0

    def add(place: str, item: object) -> None:
        nonlocal total
        if isinstance(item, h5py.Dataset):
            total += item.size * item.dtype.itemsize if item.size else 0
            if total > most:
                raise UserError(
                    f"{name}: {place} is declared as {item.shape} of {item.dtype}, but the file has only "
                    f"{path.stat().st_size:,} bytes"
                )

    try:
        with h5py.File(path, "r") as file:
            file.visititems(add)
    except UserError:
        raise
    except Exception as error:  # h5py raises many kinds on a damaged file
        raise UserError(f"{name}: {path.name} cannot be read: {error}") from error
