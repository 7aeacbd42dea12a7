"""The documentation site builds without a network and without warnings, and what is generated is complete."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
ANALYSES = sorted(path.stem for path in CONF.glob("analysis/*.yaml"))

_spec = importlib.util.spec_from_file_location("config_pages", ROOT / "docs/site/config_pages.py")
assert _spec is not None and _spec.loader is not None
config_pages = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(config_pages)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_there_and_none_loads_anything_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        text = page.read_text()
        for tag in re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*>", text):
            where = re.search(r'(?:src|href)="([^"]*)"', tag)
            assert where is None or not re.match(r"(?:https?:)?//", where[1]), f"{page}: {tag}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//", style.read_text()), style


def test_the_reference_has_docstrings_of_stages_and_tools(site):
    stages = (site / "reference/stages.html").read_text()
    for target in ("dtx.agent.ppo.PPO", "dtx.analysis.calibration.Calibration"):
        assert f'id="{target}"' in stages
    assert "the return of a behaviour clone is the same at every target" in unescape(stages)
    core = (site / "reference/core.html").read_text()
    assert all(f'id="dtx.{name}"' in core for name in ("load", "stage.Stage", "report.Report"))


OF_A_PAGE = {
    "environments": ["env.environment.Environment", "env.decision.Decision", "env.roles.Roles"],
    "models": ["dt.tokens.TokenLayout", "dt.forward.run_from", "dt.model_stage.ModelStage"],
    "pairs": ["pairs.spec.Prefix", "pairs.pair_set.PairSet"],
    "activations": ["activations.stored.Activations", "activations.prefixes.Rows"],
    "dictionary": ["dictionary.autoencoder.SparseAutoencoder", "dictionary.trained.Dictionaries"],
    "analyses": ["analysis.core.analysis.Need", "analysis.core.result.Result.established"],
    "exchange": ["exchange.handles.Loaded", "exchange.model_handle.LoadedModel"],
}


@pytest.mark.parametrize("page", OF_A_PAGE)
def test_the_reference_has_what_authors_of_stages_and_analyses_use(site, page):
    text = (site / f"reference/{page}.html").read_text()
    assert [name for name in OF_A_PAGE[page] if f'id="dtx.{name}"' not in text] == []


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda p: p.stem)
def test_the_field_pages_hold_every_field_of_every_config(path):
    """Counted by another reader of YAML than the one that made them."""
    group = path.parent.relative_to(CONF).as_posix()
    if group not in config_pages.GROUPS:
        pytest.skip("launchers of Hydra")
    text = path.read_text()
    found = {name: value or comment for name, value, comment in config_pages.rows(text, "")}

    def names(values: dict, place: str = ""):
        for key, value in values.items():
            if not place and key in ("defaults", "_target_"):
                continue
            yield f"{place}{key}"
            if isinstance(value, dict) and f"{place}{key}.{next(iter(value), '')}" in found:
                yield from names(value, f"{place}{key}.")

    wanted = set(names(yaml.safe_load(text) or {}))
    assert wanted <= set(found)
    page = config_pages.page(CONF, group)
    assert f"## {path.stem}\n" in page
    assert all(f"{name}` |" in page for name in wanted if found[name])


def test_the_comment_of_a_field_stands_beside_it(site):
    page = unescape((site / "reference/config/dt.html").read_text()).replace("<wbr>", "")
    assert re.search(
        r"dt\.model\.n_layers</code></td>\s*<td><code>3</code></td>\s*<td>transformer blocks</td>",
        page,
    )


def test_comments_are_found_behind_any_kind_of_value():
    text = (
        "# @package analysis.x\n# What it is.\na: 1  # one\nb: 'x # y'  # two\nc: {d: 1}  # three\n"
        "e:  # four\n  f: [1, 2]  # five\n  g:  # six\n    - {h: 1}\n    - 2\n"
    )
    assert list(config_pages.rows(text, "p")) == [
        ("p.a", "1", "one"),
        ("p.b", "'x # y'", "two"),
        ("p.c", "{d: 1}", "three"),
        ("p.e", "", "four"),
        ("p.e.f", "[1, 2]", "five"),
        ("p.e.g", "- {h: 1}\n- 2", "six"),
    ]
    assert config_pages.header(text) == ("What it is.", "analysis.x")


@pytest.mark.parametrize("name", ANALYSES)
def test_every_analysis_has_its_place_in_the_gallery(name):
    page = (ROOT / "docs/gallery.md").read_text()
    assert f"\n### {name}\n" in page, "an entry: what it asks, command, figure, how to read it"


def test_figures_of_the_gallery_are_small_and_used():
    page = (ROOT / "docs/gallery.md").read_text() + (ROOT / "docs/concepts/pairs.md").read_text()
    for figure in (ROOT / "docs/images/gallery").iterdir():
        assert figure.name in page and figure.stat().st_size <= 110_000


def test_the_notebooks_are_pages_with_what_they_show(site):
    for path in (ROOT / "docs/notebooks").glob("*.ipynb"):
        page = unescape((site / f"notebooks/{path.stem}.html").read_text())
        text = re.sub(r"<[^>]+>", "", page)
        cells = json.loads(path.read_text())["cells"]
        data = [o["data"] for c in cells for o in c.get("outputs", ()) if "data" in o]
        pictures = re.findall(rf'<img[^>]* src="({path.stem}-\d+\.png)"', page)
        assert len(pictures) == sum("image/png" in d for d in data) > 0
        assert all((site / "notebooks" / name).stat().st_size > 1000 for name in pictures)
        for shown in (d for d in data if "image/png" not in d):
            assert "".join(shown["text/plain"]).splitlines()[0] in text


def test_a_word_of_the_glossary_is_found_by_its_name(site):
    """Each is an entry of the search index by itself, with its meaning, ahead of pages that use the word."""
    page = (ROOT / "docs/glossary.md").read_text()
    tables = re.findall(r"(?m)^\| word \| meaning \|\n\|---\|---\|\n((?:\|.*\n)+)", page)
    rows = re.findall(r"(?m)^\| (.+?) \|", "".join(tables))
    assert len(rows) > 70
    index = json.loads((site / "search/search_index.json").read_text())["docs"]
    found = {
        unescape(entry["title"]): entry for entry in index if "glossary.html#" in entry["location"]
    }
    for word in rows:
        title = re.sub(r"[`*]", "", word)
        assert title in found, word
        assert found[title]["boost"] >= 4 and len(found[title]["text"]) > 10
