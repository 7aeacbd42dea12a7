"""dtx: declarative experiments for interpreting Decision Transformers on gridworlds."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


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
        dtx.load("analysis", "calibration").tables["curve"]

    Args:
        group: dt, agent, dataset, pairs or analysis.
        which: Name of a config (an imported model has one), or label or key; None: the default config.
        overrides: As on the command line, with a config's name.
        more: ``store``: a folder, or a ``Store`` (default: the one in use, else ``./store``). ``path``: an
            exported folder. ``config_dir``: your own configs (default: ``./conf``). Any other: an override.

    Raises:
        dtx.errors.UserError: It is not there, with the command that makes it; or several are meant.
    """
    from dtx.exchange.loading import load as found

    return found(group, which, *overrides, **more)
