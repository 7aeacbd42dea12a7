import ast
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_run_and_show_what_is_stored_in_them(path, store, tmp_path, monkeypatch):
    """Every code cell, as one program from an empty folder; what a cell shows is what the file holds."""
    import matplotlib.pyplot as plt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setattr(plt, "show", lambda: None)
    names, figures, compared = {}, 0, 0
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] != "code":
            continue
        shown = _run("".join(cell["source"]), names)
        stored = [o["data"] for o in cell["outputs"] if "data" in o]
        figures += sum("image/png" in data for data in stored)
        texts = ["".join(d["text/plain"]) for d in stored if "image/png" not in d]
        assert (shown is None) == (not texts), f"run {path.name} again and store its outputs"
        if texts:
            compared += 1
            assert repr(shown) == texts[0]
    plt.close("all")
    assert figures and compared


def _run(source: str, names: dict):
    """Execute a cell; gives the value of its last expression, if it ends with one."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), names)
    return (
        None if last is None else eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
    )
