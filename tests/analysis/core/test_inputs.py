import numpy as np
import pytest
import torch

from dtx.analysis.core.channels import cell_names
from dtx.analysis.core.inputs import Inputs
from dtx.analysis.core.windows import distinct_inputs, positions
from dtx.config.compose import build_group
from dtx.env.actions import Action
from dtx.env.encoding import flatten, one_hot
from tests.dt.test_model import VARIANTS, build, contexts
from tests.dt.toy import Recorded


@pytest.mark.parametrize("variant", ["plain", "left", "clone"])
def test_without_a_decision_windows_of_the_data_end_at_a_real_step(variant):
    _, model = build(*VARIANTS[variant])
    env = build_group("env/minigrid")  # names no decision square
    seen = Inputs(env=env, dataset=Recorded(), targets=(0.0,), count=7, seed=0)
    context, frame = seen.deciding(model)
    assert 0 < len(frame) <= 7 and len(context) == len(frame)
    padding = len(context["table"]) - 1
    assert (context["observation"][:, -1] != padding).all()
    assert torch.allclose(
        context["reward_to_go"][:, 0], torch.tensor(frame.target.to_numpy(np.float32))
    )
    again, _ = seen.deciding(model)
    assert torch.equal(context["observation"], again["observation"])
    assert model(context).shape[1] == context["timestep"].shape[1]


def test_at_the_decision_there_is_a_window_for_each_layout_and_target():
    _, model = build("dt.windows.context=5", "dt.model.n_ctx=14")
    seen = Inputs(
        env=build_group("env/memory"), dataset=Recorded(), targets=(0.0, 0.5, 0.9), count=1, seed=0
    )
    context, frame = seen.deciding(model)
    assert frame.target.tolist() == [0.0] * 4 + [0.5] * 4 + [0.9] * 4
    assert frame.layout.tolist()[:4] == ["key/left", "key/right", "ball/left", "ball/right"]
    assert torch.allclose(
        context["reward_to_go"],
        torch.tensor(frame.target.to_numpy(np.float32))[:, None].expand(-1, 5),
    )
    assert distinct_inputs(context) == 12
    assert distinct_inputs(context.repeat(3)) == 12
    assert positions(context)[-3:] == ["A4", "R5", "S5"]


def test_a_clone_does_not_tell_targets_apart():
    spec, model = build(*VARIANTS["clone"])
    context = contexts(spec)
    changed = context.clone()
    changed["reward_to_go"] = changed["reward_to_go"] + 1
    both = context.repeat(2)
    both["reward_to_go"] = torch.cat([context["reward_to_go"], changed["reward_to_go"]])
    assert distinct_inputs(both) == distinct_inputs(context)
    assert positions(context)[:3] == ["S1", "A1", "S2"]
    assert model(context).shape[0] == len(context)


def test_names_of_channels_are_where_they_are_in_the_observation():
    observation = np.zeros((7, 7, 3), np.uint8)
    observation[2, 6] = (5, 4, 1)  # a yellow key, closed
    names = np.array(cell_names())[flatten(one_hot(observation)).astype(bool)]
    assert {"key (2,6)", "yellow (2,6)", "closed (2,6)"} <= set(names)
    assert [a.number for a in (Action.left, Action.forward, Action.done)] == [0, 2, 6]
