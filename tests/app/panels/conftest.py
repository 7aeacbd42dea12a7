"""Panels asked as the page asks them: through an address, an answer, and the frames that carry it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dtx.app.address import parse
from dtx.app.asked import Explorer
from dtx.app.frames import decode, encode
from dtx.app.models import Loader
from dtx.app.moment import Moment
from dtx.app.scene import OpenPanel
from tests.app.panels import awkward as awkward_models

FLIP = "set_type:select.role=instruction:to.ball=key:to.key=ball"
KEY_LEFT = "w=key/left&a=ffff&r=.9"


@pytest.fixture
def ask(explorer) -> Callable[..., list[dict[str, Any]]]:
    """A panel's cells: of an address, its name and its parameters."""
    loader = Loader()

    def asked(text: str, name: str, **parameters: Any) -> list[dict[str, Any]]:
        panel = OpenPanel(name, parameters)
        answer = explorer.ask(parse(text)[0].json(), [panel], loader)
        return decode(encode(answer))["panels"][name]

    return asked


@pytest.fixture
def stream(explorer) -> Callable[..., list[tuple[float, dict[str, Any]]]]:
    """Of a long panel of one model every (share done, cell)."""
    loader = Loader()

    def streamed(text: str, name: str, stop=lambda: False, **parameters: Any) -> list:
        panel = OpenPanel(name, parameters)
        answers = explorer.long(parse(text)[0].json(), panel, loader, stop)
        return [(share, decode(encode(a))["panels"][name][0]) for share, a in answers]

    return streamed


@pytest.fixture
def moment(explorer) -> Callable[[str], Moment]:
    """The moment of the first model of an address."""

    def of(text: str) -> Moment:
        return next(explorer.moments(explorer.understood(parse(text)[0].json()), Loader()))

    return of


@pytest.fixture(scope="session")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> Explorer:
    """See ``tests/app/panels/awkward.py``."""
    return awkward_models.explorer(tmp_path_factory.mktemp("awkward"))


@pytest.fixture
def ask_awkward(awkward) -> Callable[..., list[dict[str, Any]]]:
    """As ``ask``, of the explorer ``awkward``."""
    loader = Loader()

    def asked(text: str, name: str, **parameters: Any) -> list[dict[str, Any]]:
        panel = OpenPanel(name, parameters)
        answer = awkward.ask(parse(text)[0].json(), [panel], loader)
        assert not answer["messages"], answer["messages"]
        return decode(encode(answer))["panels"][name]

    return asked
