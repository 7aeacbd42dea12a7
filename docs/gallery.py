"""Make the figures of the gallery (docs/images/gallery) from the artefacts of a store.

Run what is missing first, then this, in the folder of the store:

    dtx run seed=0 'analysis=[attention,lens,...]'
    python docs/gallery.py seed=0

Every figure is the artefact's own, with fewer colours so that the site stays small: of an analysis the one
that it declares as its `cover`, by default that of its name. The page `report` is photographed, if chromium
is installed.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

import dtx
from dtx.analysis.core.listing import built_in
from dtx.errors import UserError
from dtx.store.store import current

OUT = Path(__file__).parent / "images" / "gallery"
LARGEST = 100_000  # bytes
PAGE = (1000, 900)  # pixels of a page that are shown


def main(overrides: list[str]) -> int:
    """Write all figures that the store has; 1 if some are missing."""
    OUT.mkdir(parents=True, exist_ok=True)
    missing = 0
    for group, name, figure in [
        *(("analysis", name, f"{a.cover or name}.png") for name, a in built_in().items()),
        ("analysis", "report", "report.html"),
        ("pairs", "memory", "pairs.png"),
    ]:
        try:
            path = _artefact(group, name, overrides).figures[figure]
        except (UserError, KeyError) as error:
            print(f"{name}: no {figure}: {str(error).split(';')[0]}", file=sys.stderr)
            missing = 1
            continue
        target = OUT / f"{'pairs' if group == 'pairs' else name}.png"
        target.write_bytes(small(photograph(path) if path.suffix == ".html" else path.read_bytes()))
        print(f"{target.name}: {target.stat().st_size / 1e3:.0f} kB of {path.parent.parent.name}")
    return missing


def _artefact(group: str, name: str, overrides: list[str]) -> Any:
    """By config; of pages, which depend on what else was chosen, the newest."""
    if name != "report":
        return dtx.load(group, name, *overrides)
    pages = sorted(current().root.glob("report-*"), key=lambda folder: folder.stat().st_mtime)
    if not pages:
        raise UserError("run `dtx run 'analysis=[calibration,...,report]'`")
    return dtx.load(group, pages[-1].name)


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
                f"--window-size={PAGE[0]},{PAGE[1]}",
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
