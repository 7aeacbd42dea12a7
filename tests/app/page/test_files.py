"""What may stand in the page's files: they are sent as written, under a strict Content-Security-Policy."""

import re

import pytest

from tests.app.page.browser import FILES
from tests.house import MOST_LINES

SCRIPTS = sorted([*FILES.glob("*.js"), *(FILES.parent / "panels").glob("*.js")])
WHOLE = [*SCRIPTS, *FILES.glob("*.html"), *FILES.glob("*.css")]
MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|srcdoc|"
    r"\beval\s*\(|new Function|setTimeout\(\s*[\"'`]|javascript:"
)
INLINE = re.compile(r"<[^>]*\s(?:style|on[a-z]+)\s*=|<style|<script(?![^>]*\bsrc=)", re.IGNORECASE)
HEX = re.compile(r"[\"'`]#(?:[0-9a-f]{3,4}|[0-9a-f]{6}|[0-9a-f]{8})[\"'`]", re.IGNORECASE)


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.name)
def test_scripts_read_nothing_as_markup_and_have_no_colours_of_their_own(file):
    text = file.read_text(encoding="utf-8")
    assert not MARKUP.findall(text)
    assert not HEX.findall(text)


def test_what_is_looked_for_is_found_where_it_is():
    assert MARKUP.findall('a.innerHTML = b; eval ("x"); setTimeout("x")') == [
        "innerHTML",
        "eval (",
        'setTimeout("',
    ]
    assert INLINE.findall('<p class="a" style="x">') and INLINE.findall("<p onclick=f>")
    assert not INLINE.findall('<script type="module" src="main.js"></script>')
    assert HEX.findall("fill: '#aabbcc'") and not HEX.findall('"#1&m="')


@pytest.mark.parametrize("file", WHOLE, ids=lambda file: file.name)
def test_files_are_short(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) < MOST_LINES


def test_html_has_nothing_inline():
    assert not INLINE.findall((FILES / "index.html").read_text(encoding="utf-8"))


def test_the_page_with_all_panels_is_small():
    assert sum(file.stat().st_size for file in FILES.iterdir()) < 200_000


def test_modules_import_each_other_in_the_way_that_the_one_file_reads():
    every = {file.name for file in FILES.glob("*.js")}
    for file in SCRIPTS:
        for line in file.read_text(encoding="utf-8").splitlines():
            if re.match(r"(?:im|ex)port\b.*\bfrom\b", line):
                match = re.fullmatch(r'(?:im|ex)port .* from "\./([a-z_]+\.js)";', line)
                assert match and match[1] in every, f"{file.name}: {line}"
                assert file.parent == FILES, f"{file.name}: a panel imports nothing"
