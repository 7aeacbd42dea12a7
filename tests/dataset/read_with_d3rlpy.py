"""Run by test_minari_readers.py where d3rlpy is: train on a Minari dataset, print numbers as JSON.

``python read_with_d3rlpy.py FOLDER_OF_DATASETS ID``. d3rlpy takes arrays of three axes for photographs of
84 x 84, so it is told how to encode a view of 7 x 7. Its own ``get_minari`` (2.8.1) joins the T+1
observations of each episode to T actions, whoever wrote the dataset, so that they drift apart: the episodes
are handed over here.
"""

import dataclasses
import json
import os
import sys
import warnings

warnings.simplefilter("ignore")
os.environ["MINARI_DATASETS_PATH"] = sys.argv[1]

import d3rlpy  # noqa: E402
import minari  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from d3rlpy.dataset import MDPDataset  # noqa: E402
from d3rlpy.models.encoders import EncoderFactory  # noqa: E402
from d3rlpy.models.torch.encoders import Encoder  # noqa: E402


class View(Encoder):
    """Indices of a view, each as a one-hot, to 64 features."""

    def __init__(self, shape):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(11 * int(np.prod(shape)), 64), torch.nn.ReLU()
        )

    def forward(self, x):
        return self.layers(torch.nn.functional.one_hot(x.long(), 11).float())


@dataclasses.dataclass()
class Views(EncoderFactory):
    """Makes encoders of views."""

    def create(self, observation_shape):
        return View(observation_shape)

    def create_with_action(self, *args, **kwargs):
        raise NotImplementedError  # for continuous actions

    @staticmethod
    def get_type() -> str:
        return "views"


def train(algorithm, batch, steps: int) -> dict:
    """Losses of the first and the last tenth of the steps."""
    losses = [float(algorithm.update(batch())["loss"]) for _ in range(steps)]
    tenth = steps // 10
    return {"first": np.mean(losses[:tenth]), "last": np.mean(losses[-tenth:])}


def main() -> None:
    """Behaviour cloning, then a Decision Transformer."""
    d3rlpy.seed(0)
    torch.set_num_threads(1)
    source = minari.load_dataset(sys.argv[2])
    env = source.recover_environment()
    episodes = list(source)
    dataset = MDPDataset(
        observations=np.concatenate([e.observations[:-1] for e in episodes]),
        actions=np.concatenate([e.actions for e in episodes]),
        rewards=np.concatenate([e.rewards for e in episodes]),
        terminals=np.concatenate([e.terminations for e in episodes]),
        timeouts=np.concatenate([e.truncations for e in episodes]),
        action_size=int(source.action_space.n),
    )
    actions = np.concatenate([e.actions for e in dataset.episodes]).ravel()
    share = np.bincount(actions, minlength=7) / len(actions)
    clone = d3rlpy.algos.DiscreteBCConfig(
        encoder_factory=Views(), learning_rate=3e-3, beta=0
    ).create()
    clone.build_with_dataset(dataset)
    told = {
        "env": env.spec.id,
        "episodes": dataset.size(),
        "steps": len(actions),
        "chance": {
            "accuracy": share.max(),
            "loss": -(share[share > 0] * np.log(share[share > 0])).sum(),
        },
        "clone": train(clone, lambda: dataset.sample_transition_batch(64), 200),
    }
    guesses = np.concatenate(
        [clone.predict(e.observations[: len(e.actions)]) for e in dataset.episodes]
    )
    told["clone"]["accuracy"] = (guesses == actions).mean()
    transformer = d3rlpy.algos.DiscreteDecisionTransformerConfig(
        encoder_factory=Views(),
        context_size=6,
        num_heads=2,
        num_layers=1,
        max_timestep=60,
        learning_rate=3e-3,
        warmup_tokens=1,
        final_tokens=10**9,
        embed_activation_type="tanh",
    ).create()
    transformer.build_with_dataset(dataset)
    told["transformer"] = train(transformer, lambda: dataset.sample_trajectory_batch(32, 6), 200)
    print(json.dumps(told, default=float))


if __name__ == "__main__":
    main()
