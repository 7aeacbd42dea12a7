"""The file: the page of today around what was recorded."""

from __future__ import annotations

from pathlib import Path

from dtx.analysis.core.result import Result


class File:
    """Writes the file of a result.

    Args:
        result: Has the array ``contents``.
    """

    def __init__(self, result: Result):
        self.result = result

    def write_html(self, path: Path) -> None:
        """Write the file."""
        from dtx.app.onefile import assembled
        from dtx.app.panels import found

        frame = self.result.arrays["contents"].tobytes()
        path.write_text(assembled(found(), frame), encoding="utf-8")
