"""Draw the figures of the documentation (docs/images/gallery) from one run in a store.

Run what is missing first, then this:

    dtx run seed=200 'analysis=[attention,lens,...]' store.path=STORE
    python docs/gallery.py seed=200 store.path=STORE

Each analysis' cover figure is drawn again by the code of today from its recorded result; the store stays as
it is. Its title becomes the line **Found** in docs/gallery.md. What was drawn, from which artefact, by which
code stands in docs/images/figures.json; tests/docs/test_gallery.py compares it, and fails when the code or
the text has changed and the figures have not. The page `report` is photographed, if chromium is installed.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

import dtx
from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.listing import built_in
from dtx.config.compose import compose, experiment
from dtx.errors import UserError
from dtx.report import Report
from dtx.running.drift import read_code
from dtx.stage import Stage
from dtx.store.store import Store, used

DOCS = Path(__file__).parent
PAGE, OUT, RECORD = DOCS / "gallery.md", DOCS / "images/gallery", DOCS / "images/figures.json"
PACKAGE = Path(dtx.__file__).parent
LARGEST = 100_000  # bytes
SHOWN = (1000, 900)  # pixels of a page that are shown
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def main(overrides: list[str]) -> int:
    """Draw all figures that the store has results for; 1 if some are missing."""
    OUT.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {
        "python": _PYTHON,
        "overrides": _shareable(overrides),
        "figures": {},
        "missing": {},
    }
    finished = []
    for name in built_in():
        try:
            stage, store = _stage(name, overrides)
            with used(store):
                record["figures"][name] = _drawn(name, stage, store)
            finished.append(name)
        except UserError as error:
            record["missing"][name] = str(error)
            print(f"{name}: {error}", file=sys.stderr)
    for name, picture in (("pairs", _pairs), ("report", _report)):
        try:
            path = picture(overrides, finished)
            record["figures"][name] = {"picture": _digest(path), "code": code_of(name)}
        except UserError as error:
            record["missing"][name] = str(error)
            print(f"{name}: {error}", file=sys.stderr)
    RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    PAGE.write_text(with_findings(PAGE.read_text(), record["figures"]))
    return int(bool(record["missing"]))


def _shareable(overrides: list[str]) -> list[str]:
    """Without places of this machine."""
    return [one for one in overrides if not one.startswith(("store.", "tracking."))]


def _stage(name: str, overrides: list[str]) -> tuple[Any, Store]:
    words = [*overrides, "tracking.enabled=false", f"analysis=[{name}]"]
    composed = experiment(compose(words), words)
    return composed.targets[name], Store.of(composed.store)


def _drawn(name: str, stage: Analysis, store: Store) -> dict[str, Any]:
    """Draw an analysis' cover figure; what the record says of it."""
    if store.where(stage) != "local":
        raise UserError(
            f"{stage.label} is not in the store: `dtx run 'analysis=[{name}]'` computes it"
        )
    result = stage.result()
    cover = stage.cover or name
    for each, figure in stage.figures(result):
        if each == cover and isinstance(figure, Figure):
            path = _put(figure, OUT / f"{name}.png")
            # A picture of pixels has its title in them.
            said = figure.texts[0].get_text() if figure.texts else result.finding
            title = " ".join(said.split())
            plt.close("all")
            return {
                "artefact": stage.label,
                "established": result.established,
                "title": title.rstrip("."),
                "picture": _digest(path),
                "code": code_of(name),
            }
    raise UserError(f"{stage.label} draws no figure {cover}")


def _put(figure: Figure, target: Path) -> Path:
    with tempfile.TemporaryDirectory() as folder:
        Report(Path(folder)).figure("figure", figure)
        target.write_bytes(small((Path(folder) / "figures" / "figure.png").read_bytes()))
    print(f"{target.name}: {target.stat().st_size / 1e3:.0f} kB")
    return target


def _pairs(overrides: list[str], finished: list[str]) -> Path:
    """The pairs of activation patching, made anew: that takes seconds."""
    from dtx.pairs.making import make
    from dtx.pairs.pictures import draw

    stage, store = _stage("activation_patching", overrides)
    target = OUT / "pairs.png"
    with used(store), tempfile.TemporaryDirectory() as folder:
        draw(Report(Path(folder)), make(stage.pairs))
        target.write_bytes(small((Path(folder) / "figures" / "pairs.png").read_bytes()))
    return target


def _report(overrides: list[str], finished: list[str]) -> Path:
    """The top of the report page on all finished analyses, in the order of the gallery, by chromium."""
    order = re.findall(r"^### (\w+)$", PAGE.read_text(), flags=re.M)
    finished = sorted(finished, key=order.index)
    words = [*overrides, "tracking.enabled=false", f"analysis=[{','.join([*finished, 'report'])}]"]
    composed = experiment(compose(words), words)
    stage: Stage = composed.targets["report"]
    target = OUT / "report.png"
    with used(Store.of(composed.store)), tempfile.TemporaryDirectory() as folder:
        stage.run(Path(folder))
        target.write_bytes(small(photograph(Path(folder) / "figures" / "report.html")))
    return target


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def code_of(name: str) -> str:
    """Hash of the code that draws a figure, without comments, docstrings and layout.

    It is that of the analysis' module of plots (of the page's, the pictures') and of the modules of drawing
    that it imports, directly or not.
    """
    start = {"pairs": "dtx.pairs.pictures", "report": "dtx.analysis.report.page"}
    hashes: dict[str, str] = {}
    todo = [start.get(name, f"dtx.analysis.{name}.plots")]
    while todo:
        module = todo.pop()
        path = PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")
        if module in hashes or not path.is_file() or not (_draws(module) or not hashes):
            continue
        hashes[module], imported = read_code(path)
        todo += [each for each in imported if each.startswith("dtx.")]
    text = json.dumps(hashes, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _draws(module: str) -> bool:
    last = module.rpartition(".")[2]
    return last in ("plots", "pictures", "figures", "notes", "page") or last.endswith("_plots")


def with_findings(page: str, figures: dict[str, dict[str, Any]]) -> str:
    """The page with each figure's title as the line **Found** below it."""

    def entry(match: re.Match[str]) -> str:
        recorded = figures.get(match["name"], {}).get("title")
        text = re.sub(r"^- \*\*Found\*\*: .*\n", "", match[0], flags=re.M)
        if recorded is None:
            return text
        return re.sub(
            r"(^!\[.*\n\n)",
            lambda m: f"{m[1]}- **Found**: {recorded.rstrip('.')}.\n",
            text,
            count=1,
            flags=re.M,
        )

    return re.sub(r"^### (?P<name>\w+)\n(?:(?!^#).*\n)*", entry, page, flags=re.M)


def findings(page: str) -> Iterator[tuple[str, str]]:
    """(analysis, what its line **Found** says)."""
    for part in re.split(r"^### ", page, flags=re.M)[1:]:
        if found := re.search(r"^- \*\*Found\*\*: (.*)\.$", part, flags=re.M):
            yield part.split("\n", 1)[0], found[1]


def small(png: bytes) -> bytes:
    """The picture with as many colours as fit, and narrower only if 16 do not."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    while True:
        for colours in (256, 128, 64, 32, 16):
            out = io.BytesIO()
            reduced = image.quantize(colours, dither=Image.Dither.NONE)
            reduced.save(out, "png", optimize=True)
            if out.tell() <= LARGEST:
                return out.getvalue()
        image = image.resize(
            (image.width * 9 // 10, image.height * 9 // 10), Image.Resampling.LANCZOS
        )


def photograph(page: Path) -> bytes:
    """The top of an HTML page, by chromium."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        raise UserError("a page is photographed by chromium, which is not installed")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "page.png"
        subprocess.run(
            [
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                f"--user-data-dir={folder}/profile",
                f"--window-size={SHOWN[0]},{SHOWN[1]}",
                "--virtual-time-budget=20000",
                f"--screenshot={shot}",
                page.resolve().as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
        return shot.read_bytes()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
