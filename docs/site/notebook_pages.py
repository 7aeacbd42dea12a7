"""Pages of the notebooks, with the outputs stored in them; tests/docs/test_notebooks.py compares those."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def page(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and its pictures by file name."""
    pictures: dict[str, bytes] = {}
    parts = []
    for number, cell in enumerate(json.loads(path.read_text())["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        parts += _shown(cell["outputs"], f"{path.stem}-{number}", pictures)
    return "\n\n".join(parts) + "\n", pictures


def _shown(outputs: list[dict[str, Any]], name: str, pictures: dict[str, bytes]) -> Iterator[str]:
    for data in (output["data"] for output in outputs if "data" in output):
        if "image/png" in data:
            file = f"{name}.png"
            pictures[file] = base64.b64decode("".join(data["image/png"]))
            yield f"![the cell's figure]({file}){{ .gallery }}"
        else:
            yield f"```text\n{''.join(data['text/plain'])}\n```"
