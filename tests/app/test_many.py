"""Many clients of the explorer at once, and many requests: each its own answer, and bounded memory."""

from __future__ import annotations

import gc
import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import psutil
import pytest

from dtx.app.engine import Engine
from dtx.app.frames import decode, encode
from dtx.app.models import Loader
from dtx.app.scene import OpenPanel
from dtx.app.server import Server
from tests.app.served import Client, client, served

PANELS = ("policy", "attention", "lens", "rtg_scan")
FLIP = {"op": "set_rtg", "value": 0.0, "scope": "all"}
MEGABYTES = 2**20
MOST = 50 * MEGABYTES


@pytest.fixture(scope="module")
def port(explorer):
    when = {panel.name: panel.when for panel in explorer.panels.values()}
    with served(Server(lambda: Engine(explorer), when, {})) as port:
        yield port


def scene(chosen: random.Random, models: list[str]) -> dict[str, Any]:
    """A scene at random."""
    actions = "".join(chosen.choice("lrf") for _ in range(chosen.randrange(9)))
    return {
        "models": [chosen.choice(models)],
        "actions": actions,
        "reward_to_go": round(chosen.random(), 3),
        "edits": [FLIP] if chosen.random() < 0.5 else [],
    }


def asked(page: Client, asked_scene: dict[str, Any]) -> dict[str, Any]:
    """The answer; again while too many wait."""
    panels = [{"name": name} for name in PANELS]
    while (found := page.ask("/ask", {"scene": asked_scene, "panels": panels}))[0] == 503:
        time.sleep(0.01)
    assert found[0] == 200
    return found[1]


def assert_same(one: Any, other: Any, where: str = "") -> None:
    """Equal values, and arrays within rounding."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name in one.keys() - {"ms"}:
            assert_same(one[name], other[name], f"{where}.{name}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}[{i}]")
    elif isinstance(one, np.ndarray):
        np.testing.assert_allclose(one, other, atol=2e-5, err_msg=where)
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=2e-5), where
    else:
        assert one == other, where


def test_twenty_clients_at_once_get_the_answers_that_they_would_get_alone(port, explorer):
    models = [entry.id for entry in explorer.catalogue.entries()]

    def session(number: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        chosen = random.Random(number)
        with client(port) as page:
            return [(one, asked(page, one)) for one in (scene(chosen, models) for _ in range(4))]

    with ThreadPoolExecutor(20) as pool:
        answers = [pair for found in pool.map(session, range(20)) for pair in found]
    loader, panels = Loader(), [OpenPanel(name) for name in PANELS]
    for one, answer in answers:
        assert_same(answer, decode(encode(explorer.ask(one, panels, loader))))


def grown(port: int, models: list[str], before: int, requests: int, pages: int) -> float:
    """Bytes by which this process grows over some requests and pages that are closed while they wait.

    Args:
        before: Requests until what is kept is full.
    """
    chosen = random.Random(0)
    process = psutil.Process()
    with client(port) as page:

        def some(count: int) -> None:
            for _ in range(count):
                asked(page, scene(chosen, models))

        some(before)
        gc.collect()
        start = process.memory_info().rss
        some(requests)
        for _ in range(pages):
            with client(port) as closed:
                panels = [{"name": name} for name in PANELS]
                closed.send("/ask", {"scene": scene(chosen, models), "panels": panels})
        some(10)
        gc.collect()
        return process.memory_info().rss - start


@pytest.mark.slow
def test_memory_does_not_grow_with_requests_and_closed_pages(port, explorer):
    models = [entry.id for entry in explorer.catalogue.entries()]
    assert grown(port, models, before=60, requests=100, pages=20) < MOST


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_memory_after_thousands_of_requests_and_hundreds_of_pages(port, explorer):
    models = [entry.id for entry in explorer.catalogue.entries()]
    assert grown(port, models, before=500, requests=5000, pages=200) < MOST
