"""The report as one HTML file: what was asked, what came out, how sure that is, and from what."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dtx import pages
from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.page import Parts, Picture, parts_of, pictures, worded_claims
from dtx.analysis.core.result import Result
from dtx.analysis.report.lines import NOT_ASKED, Line
from dtx.dt.names import renamed
from dtx.files import read_json
from dtx.stage import TARGET, Stage
from dtx.store.checksums import DONE

_ROWS = 20
_NOT_OF_THE_RUN = ("analysis=", "+analysis=", "store.", "tracking.", "hydra.", "hydra/")
"""Beginnings of overrides that do not say what is computed, or that the report says itself."""


@dataclass(frozen=True)
class Section:
    """One analysis on the page.

    Attributes:
        name: In the config. stage: The stage. status: Of its line; empty for a stage that is no analysis.
        parts: Its result as it is shown; None for a stage that is no analysis.
        pictures: Its figures. links: Name and address of its pages. settings: Its fields as YAML.
        record: Its ``done.json``.
    """

    name: str
    stage: Stage
    status: str
    parts: Parts | None
    pictures: list[Picture]
    links: list[tuple[str, str]]
    settings: str
    record: Mapping[str, Any]

    @property
    def question(self) -> str:
        """What it asks; empty for a stage that is no analysis."""
        return self.stage.question if isinstance(self.stage, Analysis) else ""


class ReportHtml:
    """The page; a :class:`dtx.report.Page`.

    Args:
        analyses: The stages by name.
        results: Of those that are analyses.
        lines: What stands at the top.
    """

    def __init__(
        self, analyses: Mapping[str, Stage], results: Mapping[str, Result], lines: list[Line]
    ):
        self.analyses, self.results, self.lines = analyses, results, lines

    def write_html(self, path: Path, **_: Any) -> None:
        """Write the page with all pictures in it; other pages and tables are links into the store."""
        below = _below(self.analyses)
        lines = [
            replace(line, answer=renamed(line.answer), claims=worded_claims(line.claims))
            for line in self.lines
        ]
        sections = [self._section(name, stage) for name, stage in self.analyses.items()]
        pages.write(
            path,
            "analysis/report/page.html",
            asked=[line for line in lines if line.status != NOT_ASKED],
            not_asked=[line for line in lines if line.status == NOT_ASKED],
            sections=sections,
            origin=list(_origin(self.analyses, sections)),
            again=_again(sections),
            inputs=[(stage.label, stage.summary()) for stage in below],
        )

    def _section(self, name: str, stage: Stage) -> Section:
        result, there = self.results.get(name), f"../../{stage.label}"
        return Section(
            name=name,
            stage=stage,
            status=next((line.status for line in self.lines if line.analysis == name), ""),
            parts=None
            if result is None
            else parts_of(result, stage.path, stage.name, rows=_ROWS, link=f"{there}/tables"),
            pictures=list(pictures(stage.path, stage.name)),
            links=[
                (page.stem.replace("_", " "), f"{there}/figures/{page.name}")
                for page in sorted((stage.path / "figures").glob("*.html"))
            ],
            settings=OmegaConf.to_yaml(OmegaConf.create(stage.config())),
            record=read_json(stage.path / DONE),
        )


def _below(analyses: Mapping[str, Stage]) -> list[Stage]:
    """All stages that the analyses stand on, nearest first."""
    waiting, found = list(analyses.values()), []
    seen = {stage.label for stage in waiting}
    while waiting:
        for stage in waiting.pop(0).inputs().values():
            if stage.label not in seen:
                seen.add(stage.label)
                waiting.append(stage)
                found.append(stage)
    return found


def _origin(
    analyses: Mapping[str, Stage], sections: list[Section]
) -> Iterator[tuple[str, list[str]]]:
    """Model, environment, seed, date, commit, software: each with its values, mostly one."""
    models = _distinct(
        used
        for stage in analyses.values()
        for place, used in stage.inputs().items()
        if place == "dt"
    )
    yield "model", [_model(stage) for stage in models]
    configs = [stage.config() for stage in (*models, *analyses.values())]
    yield "environment", _distinct(_environment(c["env"]) for c in configs if c.get("env"))
    yield (
        "seed",
        _distinct(str(stage.config()["seed"]) for stage in models if "seed" in stage.config()),
    )
    records = [section.record for section in sections]
    days = sorted({record.get("finished", "")[:10] for record in records} - {""})
    yield "computed", [" to ".join(dict.fromkeys((days[0], days[-1])))] if days else []
    git = [record.get("git") or {} for record in records]
    yield (
        "git commit",
        _distinct(
            state["sha"][:12] + (" with uncommitted changes" if state.get("diff") else "")
            for state in git
            if state.get("sha")
        ),
    )
    packages = [record.get("packages", {}) for record in records]
    yield (
        "software",
        _distinct(
            f"Python {record.get('python', '?')}, "
            + ", ".join(
                f"{name} {known[name]}"
                for name in ("dtx", "torch", "transformer-lens")
                if name in known
            )
            for record, known in zip(records, packages, strict=True)
        ),
    )
    yield "machine", _distinct(record["host"] for record in records if record.get("host"))


def _model(stage: Stage) -> str:
    """A model's label with its size, where its config says it."""
    sizes = stage.config().get("model") or {}
    words = [
        f"{sizes[name]} {word}"
        for name, word in (("n_layers", "layers"), ("n_heads", "heads"), ("d_model", "wide"))
        if name in sizes
    ]
    return f"{stage.label} ({', '.join(words)})" if words else stage.label


def _environment(config: Any) -> str:
    """An environment in words: its class and its plain settings."""
    if not isinstance(config, Mapping):
        return str(config)
    kind = str(config.get(TARGET, "environment")).rpartition(".")[2]
    settings = [
        f"{k} {v}" for k, v in config.items() if isinstance(v, (int, float, str)) and k != TARGET
    ]
    return f"{kind} ({', '.join(settings)})" if settings else kind


def _again(sections: list[Section]) -> str:
    """The command that computes what is missing of this report in another store."""
    newest = max(sections, key=lambda section: section.record.get("finished", ""))
    overrides = [
        word for word in newest.record.get("overrides", ()) if not word.startswith(_NOT_OF_THE_RUN)
    ]
    names = ",".join((*(section.name for section in sections), "report"))
    return shlex.join(["dtx", "run", *overrides, f"analysis=[{names}]"])


def _distinct(values: Iterator[Any]) -> list[Any]:
    return list(dict.fromkeys(values))
