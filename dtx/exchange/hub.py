"""Models on a hub with Hugging Face's interface: an exported folder goes there, and comes from there.

``huggingface_hub`` reads HF_ENDPOINT, which names another hub than the public one, and HF_TOKEN, the account.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from dtx.errors import UserError
from dtx.exchange.export import MODEL_FILES, OTHER_FILES
from dtx.exchange.origin import LINEAGE
from dtx.text import first_line

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SCHEME = "hf://"
FILES = (*MODEL_FILES, *OTHER_FILES, LINEAGE, "README.md", "figures/*.png")
"""All that an exported folder can hold; nothing else is sent or fetched."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def push(folder: Path, name: str, private: bool) -> str:
    """Send an exported folder.

    Args:
        folder: That ``dtx export`` wrote.
        name: ``OWNER/MODEL``; made if it is not there.
        private: Whether a new one is.

    Returns:
        Where it can be looked at.

    Raises:
        UserError: No such name, no permission, or the hub cannot be reached.
    """
    api = _api(name)
    try:
        api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=name,
            folder_path=folder,
            allow_patterns=list(FILES),
            commit_message="Exported by dtx",
        )
    except Exception as error:  # of the network, the hub or the account
        raise UserError(f"cannot push to {name}: {first_line(error)}") from error
    return f"{api.endpoint}/{name}"


def pull(address: str, root: Path) -> Path:
    """Fetch an exported folder.

    Args:
        address: ``hf://OWNER/MODEL`` or ``hf://OWNER/MODEL@REVISION``.
        root: Folder in which it gets one of its own.

    Returns:
        The folder.

    Raises:
        UserError: There is no such model, it was not exported by dtx, or the hub cannot be reached.
    """
    name, _, revision = address.removeprefix(SCHEME).partition("@")
    api = _api(name)
    out = root / name.replace("/", "--")
    try:
        api.snapshot_download(
            name, revision=revision or None, local_dir=out, allow_patterns=list(FILES)
        )
    except Exception as error:  # of the network, the hub or the account
        raise UserError(f"cannot fetch {address}: {first_line(error)}") from error
    if not (out / LINEAGE).is_file():
        raise UserError(f"{address} was not written by `dtx export`: it has no {LINEAGE}")
    return out


def _api(name: str) -> HfApi:
    if not _NAME.fullmatch(name):
        raise UserError(f"{name!r}: a model on a hub is named OWNER/MODEL")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise UserError("models on a hub need a package: pip install 'dtx[hub]'") from None
    return HfApi(library_name="dtx")
