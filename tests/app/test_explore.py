import json
import re
import urllib.error
import urllib.request

import numpy as np
import pytest
import torch

import dtx
from dtx.app.frames import decode
from dtx.app.models import Loader
from dtx.config.compose import build_group
from dtx.dt import forward
from dtx.dt.rollout import decision_contexts
from dtx.errors import UserError
from dtx.running.provenance import provenance
from dtx.store.store import Store
from tests.app import small


def post(page, path, value, token=True):
    url, _, fragment = page.url.partition("#")
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {fragment.partition('&')[0].removeprefix('token=')}"
    asked = urllib.request.Request(url + path, json.dumps(value).encode(), headers)
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return decode(answer.read())


def policy(page, scene):
    wanted = [{"name": "policy", "parameters": {}}]
    answer = post(page, "ask", {"scene": scene, "panels": wanted})
    return answer, [cell.get("data") for cell in answer["panels"]["policy"]]


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The compiled model from a store, as ``dtx.load`` gives it."""
    store = Store(tmp_path_factory.mktemp("explore") / "store")
    stage = build_group("dt/planted")
    with store.work(stage) as work:
        stage.run(work)
        store.commit(stage, work, provenance(stage))
    return dtx.load("dt", "planted", store=store)


def test_a_loaded_model_is_shown_where_it_was_recorded_to_act(planted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    handle = planted
    with dtx.explore(handle, scene="#1&w=key/left&a=ffff&r=.9") as page:
        (about,) = post(page, "about", {})["models"]
        assert (about["kind"], about["env"], about["layers"]) == ("dt", "memory", 3)
        scene = {
            "models": [about["id"]],
            "world": "key/left",
            "actions": "ffff",
            "reward_to_go": 0.9,
        }
        answer, (data,) = policy(page, scene)
    context = decision_contexts(handle.model, handle.env.decision, [0.9])[0][0]
    expected = forward.run_with_cache(handle.model, context)[0][0, -1]
    assert answer["play"]["env"] == "memory" and not answer["messages"]
    np.testing.assert_allclose(data["original"]["logits"], expected, atol=1e-5)
    assert "&m=" in page.url and page.url.endswith("&w=key/left&a=ffff&r=.9")
    assert not list(tmp_path.iterdir())  # nothing is written


def test_modules_in_memory_want_an_environment_and_stay_as_they_are(tmp_path):
    plain, clone = small.model(n_actions=7), small.model(1, n_actions=7, reward_to_go=False)
    called = []
    plain.add_hook("blocks.0.hook_resid_pre", lambda value, hook: called.append(1))
    with dtx.explore(plain, clone, env="memory") as page:
        answer, (data, beside) = policy(page, {"models": ["model", "model2"], "reward_to_go": 0.5})
        assert [model["kind"] for model in answer["models"]] == ["dt", "clone"]
        assert data is not None and beside is not None
        # Each lane has a copy of its own, without the hooks of the model that was given.
        chosen = page.explorer.catalogue.choose("model")
        lanes = [Loader().model(chosen) for _ in range(2)]
    assert not called and plain.has_hooks and not any(lane.has_hooks for lane in lanes)
    assert lanes[0] is not lanes[1] and not any(p.requires_grad for p in lanes[0].parameters())
    assert all(
        torch.equal(a, b) for a, b in zip(plain.parameters(), lanes[0].parameters(), strict=True)
    )
    assert plain.embed.W_A.requires_grad


def test_a_page_wants_its_token_is_framed_with_it_and_ends():
    page = dtx.explore(small.model(n_actions=7), env=build_group("env/memory"))
    shown = page._repr_html_()
    (source,) = re.findall(r'src="([^"]+)"', shown)
    frame, _, fragment = source.replace("&amp;", "&").partition("#")
    with urllib.request.urlopen(frame, timeout=60) as answer:
        assert "frame-ancestors" not in answer.headers["Content-Security-Policy"]
    with urllib.request.urlopen(page.url.partition("#")[0], timeout=60) as answer:
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert page.url.partition("#")[2] == fragment and page.url in repr(page)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        post(page, "about", {}, token=False)
    page.close()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(frame, timeout=60)


@pytest.mark.parametrize(
    ("models", "settings", "problem"),
    [
        ((), {}, "one to 4 models, not 0"),
        (("gpt2",), {}, "str is no model that dtx.load gives"),
        ((torch.nn.Linear(2, 2),), {}, "Linear is no model"),
        ((small.model(n_actions=7),), {}, "name the environment"),
        ((small.model(n_actions=7),), {"env": "memry"}, "memory"),
        ((small.model(n_actions=7),), {"env": "memory", "scene": "#1&t=x"}, "scene: cursor"),
    ],
)
def test_what_cannot_be_opened_is_one_line(models, settings, problem):
    with pytest.raises(UserError, match=problem):
        dtx.explore(*models, **settings)


def test_a_model_that_reads_text_is_opened_with_its_prompts():
    readers = pytest.importorskip("tests.app.readers", reason="transformer_lens is an extra")
    model = readers.reader(readers.tokenizer())
    texts = {"text": "The cat sat", "edited_text": "The dog sat"}
    with dtx.explore(model, **texts) as page:
        assert page.url.endswith("&1&m=model&x=The%20cat%20sat&y=The%20dog%20sat")
        answer, (data,) = policy(page, {"models": ["model"], **texts})
    with torch.no_grad():
        expected = model(torch.tensor([[0, 1, 3, 4]]))[0, -1].softmax(-1)
    assert answer["play"]["changed"] == ["3 cat"]
    best = data["actions"][data["edited"]["probabilities"][:-1].argmax()]
    assert best in (model.tokenizer.decode([int(expected.argmax())]), f"#{int(expected.argmax())}")
    assert data["edited"]["probabilities"][:-1].max() == pytest.approx(
        float(expected.max()), abs=1e-6
    )
