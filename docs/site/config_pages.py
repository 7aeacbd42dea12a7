"""Pages of all config fields, from the YAML under conf/ and its comments, so that they cannot go stale."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

GROUPS = {
    "env": "Environments",
    "agent": "Agents",
    "dataset": "Demonstrations",
    "dt": "Decision Transformers",
    "pairs": "Counterfactual pairs",
    "activations": "Stored activations",
    "dictionary": "Sparse dictionaries",
    "analysis": "Analyses",
    "experiment": "Presets",
}


def rows(text: str, place: str) -> Iterator[tuple[str, str, str]]:
    """Yield (dotted name, value, comment) for every field of a YAML text.

    Args:
        text: A config file; each field's comment stands behind it, on its line.
        place: What the names start with: ``dt``, ``analysis.calibration``; empty for the top.
    """
    lines = text.splitlines()
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if isinstance(root, yaml.MappingNode):
        yield from _fields(root, lines, place)


def _fields(
    mapping: yaml.MappingNode, lines: list[str], place: str
) -> Iterator[tuple[str, str, str]]:
    for key, value in mapping.value:
        if key.value in ("defaults", "_target_") and key.start_mark.column == 0:
            continue
        name = f"{place}.{key.value}" if place else str(key.value)
        if isinstance(value, yaml.MappingNode) and not value.flow_style and value.value:
            yield name, "", _comment(lines[key.start_mark.line])
            yield from _fields(value, lines, name)
        else:
            yield name, _text(value, lines), _comment(lines[_line(key, value)])


def _line(key: yaml.Node, value: yaml.Node) -> int:
    """Where the comment of a field stands: behind a value in brackets, else on the key's line."""
    flow = isinstance(value, yaml.CollectionNode) and value.flow_style
    return value.end_mark.line if flow else key.start_mark.line


def _text(value: yaml.Node, lines: list[str]) -> str:
    """The value as it is written; entries of a list in a row."""
    if isinstance(value, yaml.SequenceNode) and not value.flow_style:
        entries = lines[value.start_mark.line : value.end_mark.line]
        return "\n".join(line.split(" #")[0].strip() for line in entries if line.strip())
    start, end = value.start_mark, value.end_mark
    if start.line == end.line:
        return lines[start.line][start.column : end.column].strip()
    return " ".join(line.strip() for line in lines[start.line : end.line + 1]).split(": ", 1)[-1]


def _comment(line: str) -> str:
    """What stands behind the first `` # `` of a line that is not in quotes."""
    found = re.match(r"""(?:[^"'#]|"[^"]*"|'[^']*'|(?<!\s)#)*\s#\s?(.*)""", line)
    return found.group(1).strip() if found else ""


def header(text: str) -> tuple[str, str | None]:
    """The comment at a file's top, and where Hydra puts the file (``# @package``), if it says so."""
    package, said = None, []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if line.startswith("# @package "):
            package = line.removeprefix("# @package ").strip()
        else:
            said.append(line[1:].strip())
    return " ".join(said), package


def page(conf: Path, group: str) -> str:
    """The page of one group: every option, every field."""
    form = "analysis=[NAME,NAME]" if group == "analysis" else f"{group}=NAME"
    out = [f"# {GROUPS[group]}", "", f"Chosen by `{form}`.", ""]
    for path in sorted(conf.glob(f"{group}/*.yaml")):
        out += _option(path, group)
    return "\n".join(out) + "\n"


def _option(path: Path, group: str) -> list[str]:
    text = path.read_text()
    about, package = header(text)
    place = {None: group, "_global_": ""}.get(package, package or "")
    choice = f"{group}=[{path.stem}]" if group == "analysis" else f"{group}={path.stem}"
    out = [f"## {path.stem}", "", _escaped(about), ""]
    target = re.search(r"^_target_: (\S+)", text, re.M)
    what = f" makes a [`{target[1]}`][{target[1]}]" if target and group != "env" else ""
    out += [f"`{choice}`{what}", ""]
    if base := re.search(r"^  - (\w+)@_here_", text, re.M):
        out += [f"Everything else is as in `{base[1]}`.", ""]
    return [*out, *table(rows(text, place)), ""]


def table(fields: Iterator[tuple[str, str, str]]) -> list[str]:
    """A table of fields; nothing if there are none. A field that only holds others needs a comment."""
    lines = [
        f"| `{name}` | {_code(value)} | {_escaped(comment)} |"
        for name, value, comment in fields
        if value or comment
    ]
    return ["| field | value | meaning |", "|---|---|---|", *lines] if lines else []


def index(conf: Path) -> str:
    """The page of conf/config.yaml, with links to the groups."""
    text = (conf / "config.yaml").read_text()
    out = [
        "# All config fields",
        "",
        "Every value of dtx stands in a YAML with a comment; these pages are made from them. A name is what",
        "the command line takes: `dtx run dt.model.n_layers=2`.",
        "",
        "| group | options |",
        "|---|---|",
    ]
    for group, title in GROUPS.items():
        names = ", ".join(f"`{p.stem}`" for p in sorted(conf.glob(f"{group}/*.yaml")))
        out.append(f"| [{title}]({group}.md) `{group}=` | {names} |")
    return "\n".join([*out, "", "## Of the run itself", "", *table(rows(text, ""))]) + "\n"


def stages(conf: Path) -> str:
    """The page of all stage classes, found by the configs' ``_target_``."""
    out = ["# Stages", "", "The class behind each config, by group.", ""]
    seen: set[str] = set()
    for group, title in GROUPS.items():
        targets = [
            m[1]
            for p in sorted(conf.glob(f"{group}/*.yaml"))
            if (m := re.search(r"^_target_: (\S+)", p.read_text(), re.M))
        ]
        fresh = [t for t in dict.fromkeys(targets) if t not in seen]
        if not fresh:
            continue
        seen.update(fresh)
        out += [f"## {title}", ""]
        for target in fresh:
            out += [f"::: {target}", "    options: {heading_level: 3, members: [load]}", ""]
    return "\n".join(out) + "\n"


def _code(value: str) -> str:
    shown = [f"`{_escaped(line)}`" for line in value.splitlines() if line]
    return "<br>".join(shown)


def _escaped(text: str) -> str:
    return (
        text.replace("|", "\\|").replace("<", "&lt;")
        if "`" not in text
        else text.replace("|", "\\|")
    )
