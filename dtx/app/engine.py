"""The explorer as one lane of the server asks it: with models of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dtx.app.asked import Explorer
from dtx.app.models import Loader
from dtx.app.scene import OpenPanel, read

Stop = Callable[[], bool]


class Engine:
    """Answers with the models of one lane; meets :class:`dtx.app.server.Engine`.

    Args:
        explorer: Shared by the lanes.
    """

    def __init__(self, explorer: Explorer):
        self._explorer, self._loader = explorer, Loader()

    def about(self) -> Mapping[str, Any]:
        """Models, environments and panels that there are now."""
        return self._explorer.about()

    def ask(self, scene: Any, panels: Sequence[Mapping[str, Any]], stop: Stop) -> Mapping[str, Any]:
        """The scene as understood, what was played, and the data of some panels."""
        return self._explorer.ask(scene, [_open(panel) for panel in panels], self._loader, stop)

    def long(
        self, scene: Any, panel: Mapping[str, Any], stop: Stop
    ) -> Iterator[tuple[float, Mapping[str, Any]]]:
        """Share done (0..1) and the answer so far; the last one is the result."""
        return self._explorer.long(scene, _open(panel), self._loader, stop)

    def text(self, scene: Any, what: str) -> str:
        """The scene as ``yaml``, ``command``, ``address`` or ``json``."""
        return self._explorer.text(scene, what)

    def save(self, scene: Any, stop: Stop) -> str:
        """The scene as one HTML file."""
        from dtx.app.onefile import of_scene

        return of_scene(self._explorer, read(scene)[0]).text


def _open(panel: Mapping[str, Any]) -> OpenPanel:
    return OpenPanel(panel["name"], panel["parameters"])
