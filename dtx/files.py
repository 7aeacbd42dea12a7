"""Reading small files that may come from elsewhere: a handed folder, a remote store, another version.

Whatever is in them, reading takes bounded time and memory, and a file that is damaged is named.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from dtx.errors import UserError

MOST_BYTES = 256 * 1024**2
"""No record that dtx writes comes near it."""


class DamagedFileError(UserError, ValueError):
    """A file does not hold what it should; a ValueError as well, for those who have a remedy to add."""


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DamagedFileError: It is not JSON, not UTF-8, too large or too deeply nested.
        OSError: It is missing or cannot be opened.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):  # a pipe would wait for ever
        raise DamagedFileError(f"{path}: is not a file")
    if about.st_size > MOST_BYTES:
        raise DamagedFileError(f"{path}: {about.st_size:,} bytes are more than any such file has")
    return parse_json(path.read_bytes(), str(path))


def link_in(folder: Path) -> Path | None:
    """The first symbolic link among a folder or file and all that is below it; None if there is none."""
    if folder.is_symlink():
        return folder
    for place, folders, names in os.walk(folder):
        for name in sorted((*folders, *names)):
            if (Path(place) / name).is_symlink():
                return Path(place) / name
    return None


def refuse_links(folder: Path) -> None:
    """Check that a folder which somebody handed over holds its files itself.

    Raises:
        UserError: It is a link or holds one: what that leads to is another file of this machine.
    """
    if (link := link_in(folder)) is not None:
        raise UserError(
            f"{link} is a link, and dtx reads only what a folder holds itself; "
            "if you trust where it leads, `cp -rL` copies the folder with that content"
        )


def parse_json(content: bytes | str, name: str) -> Any:
    """The value of JSON text; ``name`` is where it is from.

    Raises:
        DamagedFileError: It is not JSON, not UTF-8 or too deeply nested.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise DamagedFileError(f"{name}: is nested too deeply") from None
    except ValueError as error:
        raise DamagedFileError(f"{name}: is not JSON ({str(error).splitlines()[0]})") from None
