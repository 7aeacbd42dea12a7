# ruff: noqa: E501  # a case a line; signs as the page writes them
"""Every number of the page is that of the batch function: its JSON files held against calls in this process."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from dtx.app.address import address, parse
from dtx.app.frames import decode, encode
from dtx.app.models import Loader
from dtx.app.panels import LONG, ONCE
from dtx.app.scene import LETTERS, read
from dtx.dt.forward import run_with_cache
from dtx.dt.history import History
from dtx.pairs.worlds import named_world

MODELS = {
    "memory1": "memory", "planted": "memory", "memory2": "memory", "clone": "memory", "leftpad": "memory",
    "imported": "memory", "keydoor": "door_key", "obstacles": "dynamic_obstacles",
}  # fmt: skip
SCENES = 20
QUICK = (0, 3, 7)
"""Scenes of the fast tests: a model, its clone, another task; the others are slow."""
TOLERANCE, OF_PATCHING = 1e-5, 1e-4
ALWAYS = ("attention", "lens")
AT_ALL = [{"op": "set_rtg", "value": 0.1, "scope": "all"}]


def random_scene(explorer, number: int) -> str:
    """An address with panels open; number after number every model comes, first with all panels, then with
    some of those that a scene changes."""
    draw = random.Random(number)
    name = list(MODELS)[number % len(MODELS)]
    where = explorer.catalogue.places()[MODELS[name]]
    actions = draw.choices(LETTERS[: len(where.actions)], k=draw.randrange(9))
    panels = [name for name in explorer.panels if name != "policy"]
    if number >= len(MODELS):
        more = [p for p in panels if explorer.panels[p].when != ONCE and p not in ALWAYS]
        panels = [*ALWAYS, *draw.sample(more, 4)]
    scene, told = read(
        {
            "models": [name],
            "env": MODELS[name] if name == "imported" else "",
            "world": draw.choice(where.worlds or [f"seed:{draw.randrange(1000)}"]),
            "actions": "".join(actions),
            "reward_to_go": round(draw.uniform(-1, 1), 3),
            "tokens": {"2": 0.25} if draw.random() < 0.3 else {},
            "edits": draw.choice([*where.declared.edits.values(), AT_ALL])
            if draw.random() < 0.8
            else [],
            "cursor": draw.choice([None, None, 1 + draw.randrange(len(actions) + 1)]),
            "panels": [{"name": panel, "parameters": {}} for panel in panels],
        }
    )
    assert not told
    return address(scene)


def known(explorer, fragment: str, name: str) -> list[dict[str, Any]]:
    """A panel's cells, computed here."""
    scene, _ = parse(fragment)
    panel = (
        next((p for p in scene.panels or () if p.name == name), None)
        or read({"panels": [{"name": name}]})[0].panels[0]
    )
    if explorer.panels[name].when == LONG:
        *_, (_, answer) = explorer.long(scene.json(), panel, Loader(), lambda: False)
    else:
        answer = explorer.ask(scene.json(), [panel], Loader())
    return decode(encode(answer))["panels"][name]


def agree(shown: Any, known: Any, tolerance: float, where: str = "") -> int:
    """Hold nested values against each other; gives how many numbers there were."""
    if isinstance(known, np.ndarray):
        values = np.array(shown, np.float64).reshape(known.shape)  # null: not finite
        finite = np.isfinite(known)
        np.testing.assert_array_equal(np.isfinite(values), finite, where)
        scale = np.maximum(1, np.abs(known[finite]))
        worst = np.abs(values[finite] - known[finite]) / scale
        assert not worst.size or worst.max() <= tolerance, (where, worst.max())
        return known.size
    if isinstance(known, dict):
        assert shown.keys() == known.keys(), where
        return sum(agree(shown[k], known[k], tolerance, f"{where}.{k}") for k in known)
    if isinstance(known, list):
        assert len(shown) == len(known), where
        return sum(
            agree(a, b, tolerance, f"{where}[{i}]")
            for i, (a, b) in enumerate(zip(shown, known, strict=True))
        )
    if isinstance(known, float):
        assert abs(shown - known) <= tolerance * max(1, abs(known)), (where, shown, known)
        return 1
    assert shown == known, where
    return 0


@pytest.mark.parametrize(
    "number",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in range(SCENES)],
)
def test_every_number_is_that_of_the_batch_function(page, explorer, number):
    fragment = random_scene(explorer, number)
    page.go(fragment)
    for name in ["policy", *(panel["name"] for panel in page.scene["panels"])]:
        if not page.panel(name).locator("svg.figure").count():
            assert all("error" in cell for cell in known(explorer, fragment, name)), name
            continue
        tolerance = OF_PATCHING if "patching" in name else TOLERANCE
        count = agree(page.data(name)["data"], known(explorer, fragment, name), tolerance, name)
        assert count, name
    forward(page, explorer, fragment)


def forward(page, explorer, fragment: str) -> None:
    """Hold policy and attention against the model called on what minigrid shows, step by step."""
    asked = explorer.understood(parse(fragment)[0].json())
    step, actions = asked.played.cursor, asked.played.original.actions
    world = named_world(asked.played.place.environment, asked.scene.world)
    model = Loader().model(asked.subjects[0].chosen)
    history = History(model.cfg, 1, step)
    to_go = asked.scene.reward_to_go
    for t in range(step):
        given = asked.scene.tokens.get(t + 1, to_go)
        history.see(world.gen_obs()["image"][None], np.array([given], np.float32))
        if t < step - 1:
            reward = world.step(actions[t])[1]
            to_go -= reward
            history.act(np.array([actions[t]]))
    with torch.no_grad():
        logits, cache = run_with_cache(model, history.context(np.array([0])))
    data = page.data("policy")["data"][0]["data"]["original"]
    last = logits[0, -1]
    np.testing.assert_allclose(data["logits"], last, atol=TOLERANCE)
    np.testing.assert_allclose(data["probabilities"], last.softmax(-1), atol=TOLERANCE)
    positive, negative = asked.contrast
    assert data["ld"] == pytest.approx(float(last[positive] - last[negative]), abs=TOLERANCE)
    patterns = torch.stack([cache["pattern", i] for i in range(model.cfg.n_layers)])[:, 0]
    shown = page.data("attention")["data"][0]["data"]["original"]
    np.testing.assert_allclose(shown, patterns, atol=TOLERANCE)
    lens = page.data("lens")["data"][0]["data"]["original"]["logits"]
    np.testing.assert_allclose(lens[-1], last, atol=TOLERANCE)
