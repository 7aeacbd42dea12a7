"""The documentation's fenced blocks, and what runs them.

Commands and code are run as they are printed. What is small is dtx's own folder of configs: :func:`shrink`
writes a copy of conf/ with few frames, episodes and steps, and the tests let dtx find that one.
"""

from __future__ import annotations

import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from tests.fast import FAST

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN = ("sh", "console", "python", "yaml")
SHOWN = ("text", "js")  # test_explorer.py has the script drawn
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_EXCUSE = re.compile(r"<!-- not run: (.+?) -->\s*$")
_FILE = re.compile(r"\*\*`([\w./-]+\.\w+)`\*\*")
SMALL = [
    *FAST,
    "dt.model.n_layers=2",  # steering edits layer 1
    "analysis.psychology.targets=[0,0.9]",
    "analysis.psychology.episodes=2",
    "analysis.psychology.untrained=19",
    "analysis.countdown.episodes=2",
    "analysis.countdown.curve_episodes=4",
    "analysis.countdown.probed=200",
    "analysis.countdown.untrained=1",
    "analysis.attention.targets=[0,0.9]",
    "analysis.attention.untrained=19",
    "analysis.activation_patching.nodes=[resid_pre,z]",
]
_OWN_PROCESS = ("joblib", "slurm", "submitit_local", "ray")
"""Launchers whose processes read dtx's own configs: sweeps on them are planned."""
_LONG = (
    *("analysis=[scorecard]", "experiment=memory_dt_claims"),
    *("experiment=tune_small", "hydra/sweeper=optuna"),
)
"""Planned, too: over a hundred analyses or trainings, which tests of their own run."""
_FULL_SIZE = ("analysis.activation_patching.checkpoint=152,534,1000",)
"""Planned, too, and with ``_LONGER``: steps that models have kept which are trained as dtx's configs say."""
_LONGER = ("dt.steps=1000", "dt.kept_checkpoints=12")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: Behind the fence. text: What is in it. line: Of the fence, counted from 1.
        file: Where the page says that the text stands: ``**`conf/dt/mine.yaml`**`` in the paragraph before.
        excuse: Why it is not run: ``<!-- not run: WHY -->`` on the line before.
    """

    language: str
    text: str
    line: int
    file: str | None
    excuse: str | None


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page of Markdown."""
    found = []
    for fence in _FENCE.finditer(page):
        language, text = fence.groups()
        before = page[: fence.start()].rstrip("\n")
        excuse = _EXCUSE.search(before)
        file = _FILE.search(before.rsplit("\n\n", 1)[-1])
        found.append(
            Block(
                language,
                text,
                page.count("\n", 0, fence.start()) + 1,
                file[1] if file else None,
                excuse[1] if excuse else None,
            )
        )
    return found


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each command of a block; of a transcript, what stands behind the prompt."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    for line in lines:
        if words := shlex.split(line, comments=True):
            yield words


def shrink(conf: Path, small: Path) -> None:
    """Copy a folder of configs, with the values of :data:`SMALL` wherever a file has that field."""
    values = [override.split("=", 1) for override in SMALL]
    for path in sorted(conf.rglob("*.yaml")):
        target = small / path.relative_to(conf)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text()
        config = OmegaConf.load(path)
        place = _place(path, conf, text)
        changed = False
        for name, value in values:
            inner = name.removeprefix(place)
            if (place and inner == name) or not _has(config, inner):
                continue
            OmegaConf.update(config, inner, OmegaConf.create(f"v: {value}")["v"])
            changed = True
        header = "".join(line for line in text.splitlines(True) if line.startswith("# @"))
        target.write_text(header + OmegaConf.to_yaml(config) if changed else text)


def _place(path: Path, conf: Path, text: str) -> str:
    """What Hydra puts before the names of a file's fields; a word that no field has for files left alone."""
    group = path.parent.relative_to(conf).as_posix()
    if group == "dt" and "DecisionTransformer" not in text and "small@_here_" not in text:
        return "left alone."  # compiled, or trained to a circuit: small already
    package = re.search(r"^# @package (\S+)", text, re.M)
    if package and package[1] == "_global_":
        return ""
    return f"{package[1] if package else group}."


def _has(config, name: str) -> bool:
    parent, _, last = name.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    return OmegaConf.is_dict(node) and last in node


def let_dtx_find(small: Path, monkeypatch) -> None:
    """Put another folder in the place of dtx's own configs, for this test."""
    import dtx.config.compose

    modules = [dtx.config.compose]
    for path in sorted((ROOT / "dtx").rglob("*.py")):
        if re.search(r"^from dtx\.config\.compose import .*\bCONF\b", path.read_text(), re.M):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            modules.append(importlib.import_module(name))
    for module in modules:
        monkeypatch.setattr(module, "CONF", small)


class Runner:
    """Runs a page's blocks in the working directory, one after the other.

    Args:
        really: Whether ``dtx run`` runs, and ``dtx redraw``, which needs one. Otherwise it is planned.
        sweeps: Whether ``dtx run -m`` runs, too, and ``dtx compare``, which needs one.
    """

    def __init__(self, really: bool, sweeps: bool):
        self.really, self.sweeps = really, sweeps
        self.names: dict = {"__name__": "page"}

    def run(self, block: Block, capsys) -> None:
        """Run one block.

        Raises:
            AssertionError: A command did not do what the page says.
            Exception: Whatever a Python block raises.
        """
        if block.language in SHOWN or block.excuse:
            return
        assert block.language in RUN, f"a block of {block.language or 'no language'}: give one"
        if block.file:
            path = Path(block.file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
            if path.suffix == ".yaml" and path.parts[0] == "conf":
                self._composes(path, capsys)
        elif block.language == "python":
            exec(compile(block.text, f"line {block.line}", "exec"), self.names)
        else:
            assert block.language != "yaml", "of which file? name it in the paragraph before"
            for words in commands(block):
                self.command(words, block, capsys)

    def _composes(self, path: Path, capsys) -> None:
        """A config that a page shows can be chosen and planned."""
        group, name = path.parent.name, path.stem
        choice = f"analysis=[{name}]" if group == "analysis" else f"{group}={name}"
        target = (
            [f"target={group}"]
            if group in ("agent", "dataset", "dt", "pairs", "activations", "dictionary")
            else []
        )
        code, told = dtx(["plan", choice, *target], capsys)
        assert code == 0, f"{path}: {told}"

    def command(self, words: list[str], block: Block, capsys) -> None:
        """One line of a block."""
        said = " ".join(words)
        program, *args = words
        if program == "make":
            targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
            assert args[0] in targets, f"no such target: {said}"
        elif program == "pip":
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
            for extra in re.findall(r"dtx\[(\w+)\]", said):
                assert extra in extras["optional-dependencies"], f"no such extra: {said}"
        elif program == "mkdir":
            Path(args[-1]).mkdir(parents=True)
        elif program.endswith("python"):
            file = args[1].replace(".", "/") + ".py" if args[0] == "-m" else args[0]
            assert (ROOT / file).exists(), f"no such file: {said}"
        else:
            assert Path(program).name == "dtx", f"not a command that the test knows: {said}"
            self._dtx(args, block, capsys)

    def _dtx(self, args: list[str], block: Block, capsys) -> None:
        elsewhere = any(
            word in args
            for word in (*_LONG, *_FULL_SIZE, *(f"hydra/launcher={n}" for n in _OWN_PROCESS))
        )
        runs = not elsewhere and (self.sweeps if "-m" in args else self.really)
        if args[0] == "run" and "--cfg" not in args and not runs:
            args = ["plan", *args[1:], *(_LONGER if set(_FULL_SIZE) & set(args) else ())]
        made = {"compare": self.sweeps, "redraw": self.really}
        if not made.get(args[0], True):  # what it reads was only planned
            from dtx.cli import parse

            parse(args)
            return
        code, told = dtx(args, capsys)
        wanted = [line for line in block.text.splitlines() if line.startswith("dtx: error")]
        assert code == (2 if wanted else 0), f"dtx {' '.join(args)}: {code}\n{told}"
        for line in wanted:
            assert line in told.splitlines(), f"the page says {line!r}, dtx says\n{told}"


def dtx(args: list[str], capsys) -> tuple[int, str]:
    """Run a command as ``dtx`` does; gives the exit status and what was said."""
    from dtx.cli import main

    capsys.readouterr()
    try:
        code = main(args)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    told = capsys.readouterr()
    return int(code or 0), told.out + told.err
