"""A page to look through all attention maps: choose layout, layer and target."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from dtx.analysis.attention.spec import AttentionSpec
from dtx.analysis.core.page import Heading, ResultPage
from dtx.analysis.core.result import Result


class AttentionPage(ResultPage):
    """All maps in one file; a :class:`dtx.report.Page`.

    Args:
        result: Of the analysis. heading: What stands at the top. spec: Its settings.
    """

    template: ClassVar[str] = "analysis/attention/page.html"

    def __init__(self, result: Result, heading: Heading, spec: AttentionSpec):
        super().__init__(result, heading)
        self.spec = spec

    def values(self) -> Mapping[str, Any]:
        """All maps, in steps of 1/255."""
        pattern, names = self.result.arrays["pattern"], self.result.arrays["tokens"].tolist()
        rows, columns = np.tril_indices(len(names))
        values = np.rint(pattern[..., rows, columns] * 255).astype(np.uint8)
        data = {
            "names": names,
            "layouts": self.result.tables["maps"].layout.drop_duplicates().tolist(),
            "layers": pattern.shape[2],
            "heads": pattern.shape[3],
            "targets": self.spec.targets,
            "high": self.spec.targets.index(self.spec.high),
            "values": base64.b64encode(values.tobytes()).decode(),
        }
        return {"data": data, "high": f"{self.spec.high:g}"}
