"""The documentation's figures: made by the code of today, and its text says what they show."""

import hashlib
import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AGAIN = "draw the figures again: python docs/gallery.py seed=200 store.path=STORE"


@pytest.fixture(scope="module")
def gallery():
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "docs/gallery.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def record(gallery):
    return json.loads(gallery.RECORD.read_text())


def test_every_picture_is_on_record(gallery, record):
    pictures = {path.stem for path in gallery.OUT.iterdir()}
    assert pictures <= record["figures"].keys() | record["missing"].keys()
    for name, figure in record["figures"].items():
        path = gallery.OUT / f"{name}.png"
        assert hashlib.sha256(path.read_bytes()).hexdigest()[:16] == figure["picture"], name


def test_pictures_are_drawn_by_the_code_of_today(gallery, record):
    if record["python"] != f"{sys.version_info.major}.{sys.version_info.minor}":
        pytest.skip("code is hashed as this Python parses it")
    old = [name for name, f in record["figures"].items() if f["code"] != gallery.code_of(name)]
    assert not old, AGAIN


def test_a_changed_line_of_drawing_code_is_noticed_and_a_comment_is_not(
    gallery, tmp_path, monkeypatch
):
    for name in ("figures.py", "analysis/core/plots.py", "analysis/lens/plots.py"):
        copy = tmp_path / "dtx" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text((ROOT / "dtx" / name).read_text())
    monkeypatch.setattr(gallery, "PACKAGE", tmp_path / "dtx")
    hashes = []
    for line in ("", "# a comment\n", "ADDED = 1\n"):
        shared = tmp_path / "dtx/figures.py"
        shared.write_text(line + (ROOT / "dtx/figures.py").read_text())
        gallery.read_code.cache_clear()
        hashes.append(gallery.code_of("lens"))
    gallery.read_code.cache_clear()
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_text_says_what_the_figures_show(gallery, record):
    said = dict(gallery.findings(gallery.PAGE.read_text()))
    titles = {n: f["title"] for n, f in record["figures"].items() if "title" in f}
    assert said == titles, AGAIN


def test_findings_are_put_below_their_figures_once(gallery):
    page = (
        "# A\n\n### lens\n\nWhat?\n\n![lens](x.png)\n\n- **Read**: so.\n\n### other\n\nNo figure.\n"
    )
    once = gallery.with_findings(page, {"lens": {"title": "It forms late"}})
    assert "![lens](x.png)\n\n- **Found**: It forms late.\n- **Read**: so.\n" in once
    assert list(gallery.findings(once)) == [("lens", "It forms late")]
    assert gallery.with_findings(once, {"lens": {"title": "It forms early"}}).count("Found") == 1
    assert gallery.with_findings(once, {}) == page
