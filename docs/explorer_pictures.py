"""Make the pictures of docs/explorer.md: the explorer on the model that ships, in a headless Chromium.

    python -m docs.explorer_pictures docs/images/explorer

Half a minute, in a scratch folder that is removed. The pages are as high as they are; the strip is pieces of
one page: before the edit, after it, and where patching finds what the edit changed.
"""

from __future__ import annotations

import argparse
import base64
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.browser import Page, browser, browser_lacks

ROOT = Path(__file__).absolute().parents[1]
JUNCTION = "#1&m=demo&w=key/left&a=ffff&r=.892"
FLIP = "&e=set_type:select.role=instruction:to.ball=key:to.key=ball"
SHOWN = "&p=attention~rtg_scan~lens~patching"
GAP = 24  # pixels between the pieces of the strip


def main() -> int:
    """Write all pictures into a folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    if lacks := browser_lacks():
        print(lacks, file=sys.stderr)
        return 2
    out.mkdir(parents=True, exist_ok=True)
    with explorer() as home, browser() as page:
        for width, kind in ((1440, "page"), (390, "phone")):
            for dark in (False, True):
                page.resize(width, 900, dark=dark)
                shown(page, home + JUNCTION + FLIP + SHOWN)
                name = f"{kind}_{'dark' if dark else 'light'}.png"
                whole(page, width, out / name)
        page.resize(1440, 900)
        strip(page, home, out / "strip.png")
    return 0


@contextmanager
def explorer() -> Iterator[str]:
    """``dtx app`` without a store; its address."""
    with tempfile.TemporaryDirectory(prefix="dtx-pictures-") as folder:
        command = [sys.executable, "-m", "dtx", "app", "--no-browser", "--port", "5077"]
        served = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
        try:
            assert served.stderr is not None
            for line in served.stderr:
                if "http://" in line:
                    break
            yield "http://127.0.0.1:5077/"
        finally:
            served.terminate()
            served.wait(10)


def shown(page: Page, address: str) -> None:
    """Open a scene and wait until all of it is drawn, long panels too."""
    page.open("about:blank")
    page.open(address)
    page.wait("document.documentElement.dataset.drawn")
    page.wait("[...document.querySelectorAll('progress')].every((bar) => !bar.offsetParent)")
    page.settle(6)


def whole(page: Page, width: int, path: Path) -> None:
    """The whole page as PNG."""
    height = page.js("document.documentElement.scrollHeight")
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    data = page.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
    path.write_bytes(base64.b64decode(data["data"]))


def piece(page: Page, selector: str, path: Path) -> Path:
    """One element of the page as PNG."""
    box = page.js(
        f"(b => [b.x + scrollX, b.y + scrollY, b.width, b.height])(document.querySelector({selector!r})"
        ".getBoundingClientRect())"
    )
    clip = dict(zip(("x", "y", "width", "height"), box, strict=True)) | {"scale": 1}
    data = page.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
    path.write_bytes(base64.b64decode(data["data"]))
    return path


def strip(page: Page, home: str, path: Path) -> None:
    """The decision before the edit, after it, and patching, side by side."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        places = [
            (JUNCTION + "&p=", ".world"),
            (JUNCTION + "&p=", "[data-panel=policy]"),
            (JUNCTION + FLIP + "&v=edited&p=patching", "[data-panel=policy]"),
            (JUNCTION + FLIP + "&v=edited&p=patching", "[data-panel=patching]"),
        ]
        pieces = []
        for number, (scene, selector) in enumerate(places):
            shown(page, home + scene)
            pieces.append(Image.open(piece(page, selector, Path(folder) / f"{number}.png")))
        height = max(image.height for image in pieces)
        width = sum(image.width for image in pieces) + GAP * (len(pieces) - 1)
        joined = Image.new("RGB", (width, height), pieces[0].getpixel((1, 1)))
        x = 0
        for image in pieces:
            joined.paste(image, (x, 0))
            x += image.width + GAP
        joined.save(path)


if __name__ == "__main__":
    sys.exit(main())
