"""Any MiniGrid task by name, on both backends."""

import numpy as np
import pytest

from dtx.config.ranges import problems
from dtx.env.minigrid import MiniGrid, known_ids
from dtx.env.vector import Backend
from dtx.errors import UserError


def minigrid(task: str, max_steps: int | None = None, backend: Backend = Backend.auto) -> MiniGrid:
    return MiniGrid(id=task, max_steps=max_steps, backend=backend)


@pytest.mark.parametrize(
    ("task", "max_steps"),
    [
        ("MiniGrid-Empty-5x5-v0", 7),  # often solved on the last allowed step
        ("MiniGrid-Empty-5x5-v0", None),
        ("MiniGrid-DistShift1-v0", 4),  # lava: ends without reward, often on the last allowed step
    ],
)
def test_backends_agree_where_the_world_is_fixed(task: str, max_steps: int | None) -> None:
    n, steps = 16, 150
    actions = np.random.default_rng(0).choice([0, 1, 2, 2, 2], (steps, n))
    both = [minigrid(task, max_steps, b).vector(n, 0) for b in (Backend.envpool, Backend.gymnasium)]
    np.testing.assert_array_equal(both[0].reset(), both[1].reset())
    last = ended = 0
    elapsed = np.zeros(n, dtype=int)
    for a in actions:
        fast, reference = (env.step(a) for env in both)
        elapsed += 1
        for name in ("observations", "reward", "terminated", "truncated", "final_observations"):
            np.testing.assert_array_equal(getattr(fast, name), getattr(reference, name), name)
        assert not (fast.terminated & fast.truncated).any()
        assert fast.reward.dtype == np.float32
        last += (fast.terminated & (elapsed == both[0].horizon)).sum()
        ended += fast.ended.sum()
        elapsed[fast.ended] = 0
    assert ended > 20
    if max_steps is not None:
        assert last > 5


@pytest.mark.parametrize("backend", [Backend.envpool, Backend.gymnasium])
def test_a_task_with_doors_and_keys_plays(backend: Backend) -> None:
    env = minigrid("MiniGrid-DoorKey-5x5-v0", 40, backend).vector(8, 0)
    assert (env.n, env.n_actions, env.horizon) == (8, 7, 40)
    assert env.reset().shape == (8, 7, 7, 3)
    ended = sum(env.step(np.full(8, k % 7)).ended.sum() for k in range(40))
    assert ended == 8


def test_the_tasks_own_limit_is_the_horizon() -> None:
    assert minigrid("MiniGrid-Empty-5x5-v0").horizon == 100
    assert minigrid("MiniGrid-Empty-5x5-v0", 12).horizon == 12


@pytest.mark.parametrize("task", known_ids())
def test_the_settings_say_what_the_task_says(task: str) -> None:
    env = minigrid(task, 9)
    made = env.make()
    assert env.n_actions == made.action_space.n and env.horizon == 9
    made.close()


def test_a_task_with_fewer_actions_says_so_in_all_its_forms() -> None:
    env = minigrid("MiniGrid-Dynamic-Obstacles-5x5-v0", 9)
    assert env.n_actions == 3 == env.vector(2, 0).n_actions


@pytest.mark.parametrize("task", ["BabyAI-GoToRedBall-v0", "BabyAI-BossLevel-v0"])
def test_a_missing_limit_is_known_before_anything_runs(task: str) -> None:
    ((field, message),) = minigrid(task).check()
    assert field == "max_steps" and message.startswith(task)


def test_a_limit_drawn_anew_each_episode_needs_a_number() -> None:
    with pytest.raises(UserError, match=r"env\.max_steps: BabyAI-GoToLocal-v0 .* give a number"):
        _ = minigrid("BabyAI-GoToLocal-v0").horizon
    assert minigrid("BabyAI-GoToLocal-v0", 30).vector(2, 0).reset().shape == (2, 7, 7, 3)


def test_an_unknown_id_is_answered_with_the_nearest() -> None:
    ((field, message),) = minigrid("MiniGrid-DorKey-5x5-v0").check()
    assert field == "id"
    assert "did you mean MiniGrid-DoorKey-5x5-v0" in message
    with pytest.raises(UserError, match="did you mean"):
        minigrid("MiniGrid-DorKey-5x5-v0").vector(1, 0)
    with pytest.raises(UserError, match="ids look like"):
        minigrid("zzz").make()


def test_envpool_without_the_task_says_what_to_do() -> None:
    missing = "MiniGrid-MultiRoom-N4-S5-v1"
    with pytest.raises(UserError, match=r"env\.backend: .* use auto or gymnasium"):
        minigrid(missing, 20, Backend.envpool).vector(1, 0)
    assert minigrid(missing, 20, Backend.auto).vector(1, 0).reset().shape == (1, 7, 7, 3)


def test_no_step_allowed_is_an_error() -> None:
    wrong = minigrid("MiniGrid-Empty-5x5-v0", 0)
    assert list(problems(wrong)) == [("max_steps", "must be at least 1, not 0")]
    with pytest.raises(UserError, match=r"env\.max_steps: must be at least 1"):
        wrong.make()
