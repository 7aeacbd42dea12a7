"""Scripts as data: URLs."""

from __future__ import annotations

import base64
import re

import pytest

from dtx.app.file import bundle

WITH_IMPORTS = """import {one} from "./one.js";
import {two} from "../other/two.js";
export {one} from "./one.js";
const text = 'import {three} from "./three.js"';
"""


@pytest.fixture
def app(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "APP", tmp_path)
    files = {
        "file/main.js": WITH_IMPORTS,
        "file/one.js": 'import "../other/two.js";\n1;\n',
        "other/two.js": "2;\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def script(url: str) -> str:
    return base64.b64decode(url.removeprefix("data:text/javascript;base64,")).decode()


def test_modules_of_the_page_import_by_the_names_of_a_map(app):
    found = bundle.import_map(["file/main.js"])
    assert sorted(found) == ["file/main.js", "file/one.js", "other/two.js"]
    text = script(found["file/main.js"])
    assert 'import {two} from "other/two.js";' in text
    assert 'export {one} from "file/one.js";' in text
    assert text.endswith("""const text = 'import {three} from "./three.js"';\n""")


def test_a_module_alone_has_what_it_imports_inside(app):
    text = script(bundle.alone("file/main.js"))
    inner = re.findall(r'"(data:[^"]+)";', text)
    assert [script(url)[-3:] for url in inner] == ["1;\n", "2;\n", "1;\n"]
    assert script(re.findall(r'"(data:[^"]+)";', script(inner[0]))[0]) == "2;\n"


def test_every_import_of_the_page_and_the_engine_is_found():
    for name in ("page/page.js", "file/engine.js", "file/worker.js"):
        for other, url in bundle.import_map([name]).items():
            left = re.findall(
                r"""^\s*(?:import|export)\b.*from\s+["']\.""", script(url), re.MULTILINE
            )
            assert not left, other
