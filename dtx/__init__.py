"""dtx: declarative experiments for interpreting Decision Transformers on gridworlds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

if TYPE_CHECKING:
    from dtx.app.explore import Opened
    from dtx.config.compose import Experiment
    from dtx.env.environment import Environment
    from dtx.exchange.experiments import Finished
    from dtx.exchange.handles import (
        LoadedActivations,
        LoadedAgent,
        LoadedAnalysis,
        LoadedDataset,
        LoadedDictionaries,
        LoadedPairs,
    )
    from dtx.exchange.model_handle import LoadedModel

__version__ = "0.1.0"


@overload
def load(
    group: Literal["dt"], which: str | None = ..., *overrides: str, **more: Any
) -> LoadedModel: ...
@overload
def load(
    group: Literal["agent"], which: str | None = ..., *overrides: str, **more: Any
) -> LoadedAgent: ...
@overload
def load(
    group: Literal["dataset"], which: str | None = ..., *overrides: str, **more: Any
) -> LoadedDataset: ...
@overload
def load(
    group: Literal["pairs"], which: str | None = ..., *overrides: str, **more: Any
) -> LoadedPairs: ...
@overload
def load(
    group: Literal["activations"], which: str | None = ..., *overrides: str, **more: Any
) -> LoadedActivations: ...
@overload
def load(
    group: Literal["dictionary"], which: str | None = ..., *overrides: str, **more: Any
) -> LoadedDictionaries: ...
@overload
def load(
    group: Literal["analysis"], which: str | None = ..., *overrides: str, **more: Any
) -> LoadedAnalysis: ...
def load(group: str, which: str | None = None, *overrides: str, **more: Any) -> Any:
    """Load what a stage made, for a notebook::

        dt = dtx.load("dt", "memory_dt", seed=0)    a config with overrides, as `dtx run dt=memory_dt seed=0`
        dt = dtx.load("dt", experiment="quickstart")
        dt = dtx.load("dt", "decision_transformer-0643")  a label in the store, its beginning, or its key's
        dt = dtx.load("dt", path="exported")        a folder that `dtx export` wrote
        logits, cache = dt.run_with_cache(dt.windows())
        dt.rollout(reward_to_go=[0, 0.9], episodes=50)
        dt.pairs()
        dtx.load("dataset", "rollouts").columns["action"]
        dtx.load("activations", "windows").arrays["blocks.1.hook_resid_post"]
        dtx.load("dictionary", "topk").dictionaries["blocks.1.hook_resid_post-1024-16-0"].spliced(dt.model)
        dtx.load("analysis", "calibration").tables["curve"]

    Args:
        group: dt, agent, dataset, pairs, activations, dictionary or analysis.
        which: Name of a config (an imported model has one), or label or key; None: the default config.
        overrides: As on the command line, with a config's name.
        more: ``store``: a folder, or a ``Store`` (default: the one in use, else ``./store``). ``path``: an
            exported folder. ``config_dir``: your own configs (default: ``./conf``). Any other: an override.

    Raises:
        dtx.errors.UserError: It is not there, with the command that makes it; or several are meant.
    """
    from dtx.exchange.loading import load as found

    return found(group, which, *overrides, **more)


def compose(*overrides: str, config_dir: Path | str | None = None, **fields: Any) -> Experiment:
    """Compose and check an experiment without running it, as `dtx plan` does::

        what = dtx.compose("dt=small", seed=3)
        what.targets["calibration"].dt.steps

    Args:
        overrides: As on the command line.
        config_dir: Your own configs (default: ``./conf`` if it is there).
        fields: More overrides, with Python values; dots as ``**{"dt.steps": 100}``.

    Raises:
        dtx.config.build.ConfigError: Every mistake, a line each.
    """
    from dtx.exchange.experiments import compose as composed

    return composed(*overrides, config_dir=config_dir, **fields)


def run(*overrides: str, config_dir: Path | str | None = None, **fields: Any) -> Finished:
    """Run the stages that are missing, as `dtx run` does, and give the results by name::

        done = dtx.run("dt=small", seed=3)
        done["calibration"].result.claims

    Args:
        overrides, config_dir, fields: As of :func:`compose`.

    Raises:
        dtx.errors.UserError: A mistake in the config, or a stage that failed; what is finished is kept.
    """
    from dtx.exchange.experiments import run as finished

    return finished(*overrides, config_dir=config_dir, **fields)


def explore(
    *models: Any,
    env: Environment | str | None = None,
    scene: str = "",
    text: str = "",
    edited_text: str = "",
) -> Opened:
    """Open the explorer's page on models in memory; in a notebook it shows itself::

        page = dtx.explore(dtx.load("dt", "memory_dt"))
        page.url                                      # for a browser on this machine
        page.close()
        dtx.explore(network, env="memory")            # a DecisionTransformerModel
        dtx.explore(gpt2, text="The keys on the table", edited_text="The key on the table")

    The models are copied: hooks that they have are left out, and later training is not seen. Nothing is
    written.

    Args:
        models: One to four: handles of :func:`load`, ``DecisionTransformerModel``, or models of
            TransformerLens that read tokens.
        env: Where a model acts: an environment, or the name of a config, ``"memory env.size=9"``; default:
            the recorded one.
        scene: What follows a page's address: ``"#1&w=key/left&a=ffff"``; its models are these.
        text: What models that read text are given.
        edited_text: The prompt to compare with, of as many tokens.

    Raises:
        dtx.errors.UserError: None of these is a model, or no environment is known.
    """
    from dtx.app.explore import explore as opened

    return opened(*models, env=env, scene=scene, text=text, edited_text=edited_text)
