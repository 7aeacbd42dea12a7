"""Files of every kind that dtx reads, damaged by chance, and a command that reads them.

Damage is to the bytes, or to what they say: a number of a JSON file becomes another one, a column of a table
gets another type, a dataset of HDF5 another shape. The sums that an artefact's record holds are made right
again in half of the cases, as they would be in a folder that somebody hands over.
"""

from __future__ import annotations

import hashlib
import json
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.end_to_end.fuzz_lines import interrupted
from tests.end_to_end.material import MINARI
from tests.fast import FAST

ODD_JSON: list[Any] = [
    *(None, True, False, 0, -1, 1, 0.5, 2**31, 2**63, -(2**63), 10**30, 1e308, 1e-320),
    *(
        float("nan"),
        float("inf"),
        "",
        "x",
        "../../x",
        "/etc/passwd",
        "\x1b[31mred",
        "é" * 50,
        "x" * 10_000,
    ),
    *([], {}, [[]], [0], [None], {"": 0}, {"x": {"y": []}}, list(range(1000))),
]


def damage_bytes(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Bytes changed, lost or added."""
    data = bytearray(content)
    size = len(data)
    at = chance.randrange(size) if size else 0
    kind = chance.choice(
        ["flip", "flip", "cut", "empty", "zeros", "insert", "twice", "garbage", "head"]
    )
    if kind == "flip":
        for _ in range(chance.choice([1, 4, 64])):
            if size:
                data[chance.randrange(size)] = chance.randrange(256)
    elif kind == "cut":
        del data[at:]
    elif kind == "empty":
        data.clear()
    elif kind == "zeros":
        end = min(size, at + chance.choice([1, 8, 1000, size]))
        data[at:end] = bytes(end - at)
    elif kind == "insert":
        data[at:at] = chance.randbytes(chance.choice([1, 8, 1000]))
    elif kind == "twice":
        data += bytes(data)
    elif kind == "garbage":
        data = bytearray(chance.randbytes(min(size, 100_000)))
    else:
        for place in range(min(size, 16)):
            if chance.random() < 0.3:
                data[place] = chance.randrange(256)
    return kind, bytes(data)


def damage_json(value: Any, chance: random.Random) -> tuple[str, Any]:
    """One place of a JSON value changed, taken away, renamed or nested."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        entries = node.items() if isinstance(node, dict) else enumerate(node)
        for name, below in entries:
            places.append((node, name))
            if isinstance(below, (dict, list)):
                walk(below)

    if isinstance(value, (dict, list)):
        walk(value)
    if not places or chance.random() < 0.05:
        odd = chance.choice(ODD_JSON)
        return f"all is {odd!r}"[:100], odd
    node, name = chance.choice(places)
    kind = chance.choice(["replace", "replace", "replace", "lose", "rename", "deep"])
    if kind == "replace":
        node[name] = chance.choice(ODD_JSON)
        return f"{name!r} is {node[name]!r}"[:100], value
    if kind == "lose":
        del node[name]
        return f"without {name!r}", value
    if kind == "rename" and isinstance(node, dict):
        node[chance.choice(["x", "", "../../x", f"{name} "])] = node.pop(name)
        return f"{name!r} has another name", value
    for _ in range(chance.choice([50, 900])):
        node[name] = [node[name]]
    return f"{name!r} is nested", value


def _json(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    said, value = damage_json(json.loads(content), chance)
    return said, json.dumps(value).encode()


def _json_lines(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    lines = content.splitlines()
    at = chance.randrange(len(lines))
    said, value = damage_json(json.loads(lines[at]), chance)
    lines[at] = json.dumps(value).encode()
    return f"line {at}: {said}", b"\n".join(lines) + b"\n"


def _safetensors(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    (length,) = struct.unpack("<Q", content[:8])
    said, header = damage_json(json.loads(content[8 : 8 + length]), chance)
    text = json.dumps(header).encode()
    wrong = chance.choice([len(text)] * 8 + [2**63, 10**9])
    return f"header: {said}", struct.pack("<Q", wrong) + text + content[8 + length :]


def _table(
    content: bytes, chance: random.Random, write: Callable, read: Callable
) -> tuple[str, bytes]:
    import pyarrow as pa

    table = read(pa.BufferReader(content))
    name = chance.choice(table.column_names)
    at, rows = table.column_names.index(name), table.num_rows
    kind = chance.choice(["lose", "rename", "text", "null", "number", "empty", "nested", "twice"])
    if kind == "lose":
        table = table.drop_columns([name])
    elif kind == "rename":
        table = table.rename_columns(["x" if c == name else c for c in table.column_names])
    elif kind == "empty":
        table = table.slice(0, 0)
    elif kind == "twice":
        table = pa.concat_tables([table, table])
    else:
        made = {
            "text": lambda: pa.array(["x\x1b[31m"] * rows),
            "null": lambda: pa.nulls(rows),
            "number": lambda: pa.array([chance.choice([-5, 2**62, 0, 300])] * rows),
            "nested": lambda: pa.array([[{"a": 1}]] * rows),
        }[kind]()
        table = table.set_column(at, name, made)
    sink = pa.BufferOutputStream()
    write(table, sink)
    return f"column {name!r}: {kind}", sink.getvalue().to_pybytes()


def _parquet(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    import pyarrow.parquet as pq

    return _table(content, chance, pq.write_table, pq.read_table)


def _arrow(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    import pyarrow as pa

    def write(table: pa.Table, sink: pa.BufferOutputStream) -> None:
        with pa.ipc.new_file(sink, table.schema) as file:
            file.write_table(table)

    return _table(content, chance, write, lambda source: pa.ipc.open_file(source).read_all())


def _hdf5(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    import io

    import h5py
    import numpy as np

    stream = io.BytesIO(content)
    with h5py.File(stream, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = chance.choice(names)
        group, leaf = file[name].parent, name.rpartition("/")[2]
        kind = chance.choice(
            ["lose", "attribute", "huge", "text", "nan", "link", "scalar", "group"]
        )
        if kind == "attribute":
            owner = file[name] if file[name].attrs else file[names[0]]
            for key in owner.attrs:
                owner.attrs[key] = chance.choice([-1, 10**12, "x", 0.5])
        else:
            del group[leaf]
        if kind == "huge":
            group.create_dataset(leaf, shape=(10**11,), dtype="f8", chunks=(1000,))
        elif kind == "text":
            group[leaf] = "x"
        elif kind == "nan":
            group[leaf] = np.full((3, 3), np.nan)
        elif kind == "link":
            group[leaf] = h5py.ExternalLink("/etc/passwd", "/x")
        elif kind == "scalar":
            group[leaf] = -5
        elif kind == "group":
            group.create_group(leaf)
    return f"{name}: {kind}", stream.getvalue()


def _zip(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    import io

    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        names = old.namelist()
        wrong = chance.choice(names)
        kind = chance.choice(["damage", "damage", "damage", "lose", "rename", "bomb", "twice"])
        said = f"{wrong}: {kind}"
        for name in names:
            data = old.read(name)
            if name != wrong:
                new.writestr(name, data)
            elif kind == "damage":
                change = _json if name == "data" and chance.random() < 0.7 else damage_bytes
                how, data = change(data, chance)
                said += f" ({how})"
                new.writestr(name, data)
            elif kind == "rename":
                new.writestr("../../" + name, data)
            elif kind == "bomb":
                new.writestr(name, bytes(300_000_000), zipfile.ZIP_DEFLATED)
            elif kind == "twice":
                new.writestr(name, data)
                new.writestr(f"{name}.again", data)
    return said, out.getvalue()


BY_WHAT_IT_SAYS: dict[str, Callable[[bytes, random.Random], tuple[str, bytes]]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".safetensors": _safetensors,
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".hdf5": _hdf5,
    ".zip": _zip,
}


def _damage(path: Path, chance: random.Random) -> str:
    """Damage one file; says how."""
    content = path.read_bytes()
    change = BY_WHAT_IT_SAYS.get(path.suffix, damage_bytes)
    if chance.random() < 0.4:
        change = damage_bytes
    said, data = change(content, chance)
    path.write_bytes(data)
    return said


def _sums_made_right(folder: Path, path: Path) -> None:
    """The record lists the damaged file as it is now."""
    record = json.loads((folder / "done.json").read_text())
    data = path.read_bytes()
    name = str(path.relative_to(folder))
    record["files"][name] = [len(data), hashlib.sha256(data).hexdigest()]
    (folder / "done.json").write_text(json.dumps(record))


# --- where, and what reads it ------------------------------------------------------------------------------

_MINARI = ["dataset=minari", f"dataset.id={MINARI}", "dataset.root=datasets"]


def _artefact(chance: random.Random, here: Path) -> tuple[Path, list[str]]:
    """A file of the store, and any command that reads artefacts."""
    folder = chance.choice(sorted((here / "store").glob("*/done.json"))).parent
    files = [p for p in sorted(folder.rglob("*")) if p.suffix in (*BY_WHAT_IT_SAYS,)]
    path = chance.choice([*files, folder / "done.json"])
    label = folder.name
    run = ["run", *FAST]
    commands = {
        "ppo": [run, ["run", *FAST, "dataset.seed=7", "target=dataset"], ["export", label, "out"]],
        "rollouts": [
            ["run", *FAST, "dt.seed=7", "target=dt"],
            ["run", *FAST, "dt.seed=7", "analysis=demonstrations", "target=analysis"],
            ["export", label, "out", "--as", "fuzz/out-v0"],
        ],
        "decision_transformer": [
            ["run", *FAST, "analysis=[lens]"],
            ["export", label, "out"],
            ["compare", "-m", *FAST, "target=dt", "dt.seed=0,1"],
        ],
        "calibration": [["redraw", *FAST], run, ["compare", *FAST]],
        "demonstrations": [["redraw", *FAST], run],
    }
    any_of_them = [
        ["status", "--all"],
        ["gc", "--older", "0"],
        ["plan", *FAST],
        ["invalidate", label],
    ]
    own = commands.get(label.rpartition("-")[0], [])
    if path.name != "done.json" and chance.random() < 0.7:
        path = path if path.exists() else folder / "done.json"
    return path, chance.choice([*own, *own, *any_of_them])


def _remote(chance: random.Random, here: Path) -> tuple[Path, list[str]]:
    files = [p for p in sorted((here / "remote").rglob("*")) if p.is_file() and p.suffix != ".html"]
    records = [p for p in files if p.parent == here / "remote"]
    return chance.choice([chance.choice(files), chance.choice(records)]), [
        *("run", *FAST, "store.remote=remote", "store.path=another", "tracking.enabled=false"),
        *chance.choice([["target=agent"], ["target=dt"], []]),
    ]


def _handed(chance: random.Random, here: Path) -> tuple[Path, list[str]]:
    files = [p for p in sorted((here / "handed").rglob("*")) if p.is_file()]
    return chance.choice(files), ["import", "handed", "--as", "theirs"]


def _minari(chance: random.Random, here: Path) -> tuple[Path, list[str]]:
    files = [p for p in sorted((here / "datasets").rglob("*")) if p.is_file()]
    verb = chance.choice(["plan", "run", "run"])
    return chance.choice(files), [verb, *FAST, *_MINARI, "target=dataset"]


def _teacher(chance: random.Random, here: Path) -> tuple[Path, list[str]]:
    path = here / "teacher.zip"
    if not path.exists():
        return _minari(chance, here)
    task = ["env=minigrid", "env.id=MiniGrid-Empty-5x5-v0"]
    flags = chance.choice([[], ["--unsafe-pickle"]])
    return path, ["import", "teacher.zip", *flags, *task]


def _work(chance: random.Random, here: Path) -> tuple[Path, list[str]]:
    files = [p for p in sorted((here / "store" / ".work").rglob("*")) if p.is_file()]
    verb = chance.choice([[*interrupted(), "--cfg", "job"], ["status"], ["gc", "--older", "0"]])
    return chance.choice(files), verb


def _records(chance: random.Random, here: Path) -> tuple[Path, list[str]]:
    files = sorted((here / "store" / ".runs").glob("*.json")) + sorted(
        here.glob("multirun/**/sweep.json")
    )
    return chance.choice(files), chance.choice(
        [["gc"], ["gc", "--forget", "study"], ["compare"], ["status"]]
    )


PLACES = [
    _artefact,
    _artefact,
    _artefact,
    _remote,
    _handed,
    _minari,
    _minari,
    _teacher,
    _work,
    _records,
]


def damaged(chance: random.Random, here: Path) -> tuple[str, list[str]]:
    """One file damaged, and a command that reads it."""
    path, arguments = chance.choice(PLACES)(chance, here)
    said = _damage(path, chance)
    record = path.parent
    while record != here and not (record / "done.json").exists():
        record = record.parent
    if record != here and path.name != "done.json" and chance.random() < 0.5:
        _sums_made_right(record, path)
        said += ", and its sum made right"
    return f"{path.relative_to(here)}: {said}", arguments
