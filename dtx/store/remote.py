"""A second place for artefacts, shared by machines: any fsspec URL (``s3://bucket/prefix``, a folder).

``<url>/<stage>-<key>/<digest>/`` holds the files of an artefact, ``<url>/<stage>-<key>.json`` is its
``done.json`` and is written last: without it an artefact does not exist, so an interrupted push is ignored,
and one shallow listing gives all artefacts. The digest is that of the list of files: two machines whose
results differ in the last digits never mix their files, and an interrupted push goes on by size alone. A
complete artefact is never overwritten: the first one wins.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from dtx.errors import UserError
from dtx.files import content_of, link_in, parse_json
from dtx.progress import console, progress
from dtx.running.processes import of_killed, process_name
from dtx.store.checksums import check_record, damage, files_in

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from fsspec.callbacks import Callback

_LOCAL = ("", "file", "local")
_S3 = ("s3", "s3a")
_OBJECT_STORES = (*_S3, "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci")
"""Here a file appears complete or not at all, and folders need not be made."""
_FEW_TRIES = {"connect_timeout": 5, "read_timeout": 30, "retries": {"total_max_attempts": 2}}
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_WITHOUT = "store.remote=null goes on without it"
_MB = 1e6


class RemoteError(UserError):
    """The remote store does not answer, or fails. The local store is unchanged."""


class Remote:
    """Artefacts at an fsspec URL. Nothing is requested before the first call.

    Args:
        url: ``s3://bucket/prefix``, ``file:///shared/dtx``, a plain path. Credentials and an endpoint come
            from the environment (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``) or the AWS config files.
    """

    def __init__(self, url: str):
        protocol, mark, path = url.partition("://") if "://" in url else ("", "", url)
        if protocol in _LOCAL:
            plain = Path(path).expanduser()
            if not (plain.is_absolute() or not mark) or not path or plain.resolve() == Path("/"):
                raise RemoteError(
                    f"store.remote: {url} names no folder: give file:///folder or a plain path"
                )
            path = str(plain.absolute())
        elif "::" in url:
            raise RemoteError(f"store.remote: {url}: one place is wanted, not a chain of them")
        self.url = f"{protocol}{mark}{path.rstrip('/')}"
        self._labels: set[str] | None = None

    @property
    def folder(self) -> Path | None:
        """The folder, if the URL is one of this machine's."""
        protocol, _, path = self.url.rpartition("://")
        return Path(path).resolve() if protocol in _LOCAL else None

    def has(self, label: str, *, ask_again: bool = False) -> bool:
        """Whether a complete artefact is there.

        The answer comes from one listing in each process.

        Args:
            label: Name of the artefact.
            ask_again: If it was not there, look whether another machine has pushed it since.
        """
        if self._labels is None:
            self._labels = self._list()
        if ask_again and label not in self._labels and self._read(label) is not None:
            self._labels.add(label)
        return label in self._labels

    def record(self, label: str) -> bytes:
        """The ``done.json`` of an artefact, byte by byte.

        Raises:
            UserError: It is missing or not readable.
        """
        self._refuse_links(label)
        content = self._read(label)
        if content is None:
            raise RemoteError(f"{self.url}/{label}.json is not there any more; {_WITHOUT}")
        if _files(content, label) is None:
            raise UserError(
                f"corrupt artefact: {self.url}/{label}.json is not readable; {self._mend(label)}"
            )
        return content

    def push(self, label: str, folder: Path, record: bytes) -> bool:
        """Copy an artefact's files there, and its record last.

        Args:
            label: Name of the artefact.
            folder: Its files.
            record: Its ``done.json``, which lists the files.

        Returns:
            False if a complete one was there already; it is left unchanged.
        """
        _, root = self._place
        files = _files(record, label)
        if files is None:
            raise UserError(f"corrupt artefact: {folder} has no readable list of files")
        self._refuse_links(label)
        whole = self._is_whole(label)
        if not whole:
            there = f"{root}/{label}/{_digest(files)}"
            with self._using(f"take {label}"):
                todo = self._lacking(there, files)
                with _shown(label, f"pushed to {self.url}", [files[n][0] for n in todo]) as steps:
                    for name, step in zip(todo, steps, strict=True):
                        self._put(folder / name, f"{there}/{name}", step)
                if lacking := self._lacking(there, files):
                    raise OSError(f"{lacking[0]} did not arrive whole")
                self._sweep(there, files)
                for half in of_killed(self.folder, f"{label}.json.part+") if self.folder else ():
                    half.unlink(missing_ok=True)
                self._put_record(record, f"{root}/{label}.json")
        if self._labels is not None:
            self._labels.add(label)
        return not whole

    def pull(self, label: str, work: Path) -> bytes:
        """Copy an artefact's files into ``work`` and verify every one of them.

        Files that an interrupted pull left there are kept if they are valid.

        Returns:
            The artefact's ``done.json``.

        Raises:
            UserError: A file there is missing, or differs from what was pushed.
        """
        fs, root = self._place
        record = self.record(label)
        files = _files(record, label) or {}
        there = f"{label}/{_digest(files)}"
        work.mkdir(parents=True, exist_ok=True)
        for path in [p for p in work.rglob("*") if p.is_file()]:
            if path.relative_to(work).as_posix() not in files:  # left by the pull of another one
                path.unlink()
        todo = [n for n, (size, digest) in files.items() if damage(work / n, size, digest)]
        with self._using(f"give {label}"):
            sizes = self._sizes(f"{root}/{there}")
        with _shown(label, f"pulled from {self.url}", [files[n][0] for n in todo]) as steps:
            for name, step in zip(todo, steps, strict=True):
                path = work / name
                path.parent.mkdir(parents=True, exist_ok=True)
                size = files[name][0]
                if sizes.get(name) == size:
                    with self._using(f"give {label}", here=True), suppress(FileNotFoundError):
                        fs.get_file(f"{root}/{there}/{name}", str(path), callback=step)
                wrong = damage(path, *files[name])
                if sizes.get(name, size) != size:  # it was not copied: it may be of any size
                    wrong = f"has {sizes[name]} bytes instead of {size}"
                if wrong:
                    path.unlink(missing_ok=True)
                    raise UserError(
                        f"corrupt artefact: {self.url}/{there}/{name} {wrong}; {self._mend(label)}"
                    )
        return record

    def _refuse_links(self, label: str) -> None:
        """A link in a shared folder would have a pull read, or a push write, somewhere else."""
        for place in (f"{label}.json", label) if self.folder else ():
            assert self.folder is not None
            if (link := link_in(self.folder / place)) is not None:
                raise RemoteError(f"remote store: {link} is a link: remove it; {_WITHOUT}")

    def _mend(self, label: str) -> str:
        return (
            f"delete {self.url}/{label}.json and {self.url}/{label}/, and the next run makes it again "
            f"and pushes it; {_WITHOUT}"
        )

    # --- the place -----------------------------------------------------------------------------------

    @cached_property
    def _place(self) -> tuple[AbstractFileSystem, str]:
        """The file system, and the folder in it."""
        from fsspec.core import url_to_fs
        from fsspec.utils import get_protocol

        protocol = get_protocol(self.url)
        options = {"config_kwargs": _FEW_TRIES} if protocol in _S3 else {}
        try:
            fs, root = url_to_fs(self.url, skip_instance_cache=True, **options)
        except ImportError as error:
            extra = f"`pip install 'dtx[s3]'` ({error})" if protocol in _S3 else str(error)
            raise RemoteError(
                f"store.remote: {protocol}:// needs a package that is not installed: {extra}"
            ) from error
        except Exception as error:
            raise RemoteError(
                f"store.remote: {self.url} cannot be used: {_reason(error)}; "
                "give s3://bucket/prefix, file:///folder or a plain path"
            ) from error
        if not root.strip("/"):
            raise RemoteError(f"store.remote: {self.url} names no bucket or folder")
        if protocol in _S3:
            fs.retries = 2  # s3fs's own, on top of botocore's
        return fs, root.rstrip("/")

    @property
    def _objects(self) -> bool:
        fs, _ = self._place
        names = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
        return any(name in _OBJECT_STORES for name in names)

    def _list(self) -> set[str]:
        fs, root = self._place
        with self._using("be listed"):
            fs.invalidate_cache()
            if not self._objects and not fs.isdir(root):
                # Not made here: it may be a shared folder that is not mounted.
                raise RemoteError(
                    f"store.remote: there is no folder {self.url}: mount it, or make it "
                    f"(mkdir -p); {_WITHOUT}"
                )
            try:
                names = [PurePosixPath(path).name for path in fs.ls(root, detail=False)]
            except FileNotFoundError:
                if not fs.exists(root.split("/")[0]):
                    raise
                names = []  # a bucket in which nobody has written under the prefix yet
        return {name.removesuffix(".json") for name in names if name.endswith(".json")}

    def _read(self, label: str) -> bytes | None:
        fs, root = self._place
        with self._using("be read"), suppress(FileNotFoundError):
            if self.folder is not None:
                return content_of(Path(f"{root}/{label}.json"))
            return bytes(fs.cat_file(f"{root}/{label}.json"))
        return None

    def _is_whole(self, label: str) -> bool:
        record = self._read(label)
        return record is not None and _files(record, label) is not None

    def _lacking(self, there: str, files: dict[str, tuple[int, str]]) -> list[str]:
        """Names of the files that are not there with their size."""
        sizes = self._sizes(there)
        return [name for name, (size, _) in files.items() if sizes.get(name) != size]

    def _sizes(self, there: str) -> dict[str, int]:
        """Bytes of all files in a folder by name; a pipe or a device is none."""
        fs, _ = self._place
        fs.invalidate_cache()
        listing = fs.find(there, detail=True)
        assert isinstance(listing, dict)
        return {
            path[len(there) + 1 :]: info["size"]
            for path, info in listing.items()
            if info["type"] == "file"
        }

    def _put(self, source: Path, target: str, step: Callback) -> None:
        fs, _ = self._place
        if self._objects:
            fs.put_file(str(source), target, callback=step)
            return
        self._by_rename(target, lambda part: fs.put_file(str(source), part, callback=step))

    def _put_record(self, record: bytes, target: str) -> None:
        fs, _ = self._place
        if self._objects:
            fs.pipe_file(target, record)
            return
        self._by_rename(target, lambda part: fs.pipe_file(part, record))

    def _by_rename(self, target: str, write: Callable[[str], None]) -> None:
        """On a file system an incomplete file would be visible: write beside it and rename."""
        fs, _ = self._place
        fs.makedirs(fs._parent(target), exist_ok=True)
        part = f"{target}.part+{process_name()}"
        write(part)
        fs.mv(part, target)

    def _sweep(self, there: str, files: Iterable[str]) -> None:
        """Remove what interrupted pushes of the same files left beside them."""
        fs, _ = self._place
        for path in fs.find(there):
            if path[len(there) + 1 :] not in files:
                with suppress(FileNotFoundError):
                    fs.rm_file(path)

    @contextmanager
    def _using(self, what: str, here: bool = False) -> Iterator[None]:
        """Turn any error of a file system into a RemoteError. ``here``: the block also writes locally."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # each library has its own classes
            if here and isinstance(error, OSError) and error.errno in _DISK_FULL:
                raise
            raise RemoteError(
                f"remote store {self.url} cannot {what}: {_reason(error)}; "
                f"check the address, the network and the credentials, or {_WITHOUT}"
            ) from error


def _files(content: bytes, label: str) -> dict[str, tuple[int, str]] | None:
    """Size and SHA-256 by name, from an artefact's ``done.json``; None if it is not one, or another's."""
    try:
        record = check_record(parse_json(content, label))
        named = {"stage", "key"} <= record.keys()
        if named and f"{record['stage']}-{record['key']}" != label:
            return None
        return files_in(record) or None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _digest(files: dict[str, tuple[int, str]]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16]


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kind = "" if isinstance(error, OSError) and lines else f"{type(error).__name__}: "
    return f"{kind}{lines[0]}".rstrip(".") if lines else type(error).__name__


@contextmanager
def _shown(label: str, done: str, sizes: list[int]) -> Iterator[Iterator[Callback]]:
    """A bar in MB, and one line at the end; gives a callback for each file in turn."""
    from fsspec.callbacks import Callback

    with progress(label.rpartition("-")[0], sum(sizes) / _MB, "MB") as bar:

        def steps() -> Iterator[Callback]:
            before = 0
            for size in sizes:

                def moved(size: int, value: int, before: int = before, **_: Any) -> None:
                    bar.move_to((before + value) / _MB)

                bar.move_to(before / _MB)
                yield Callback(hooks={"bar": moved})
                before += size

        yield steps()
    name, _, key = label.rpartition("-")
    amount = f"{sum(sizes) / _MB:,.1f} MB in {len(sizes)} files"
    console.print(f"[bold]{name}[/] {key} {escape(done)}: {amount}", soft_wrap=True)
