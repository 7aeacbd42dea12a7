"""Overrides for what dtx's own configs leave to the user (``???``): a digest, or a name."""

from __future__ import annotations

from omegaconf import OmegaConf

from dtx.config.compose import CONF

DIGEST = "a" * 64
_OF_THEIR_OWN = {"id": "minigrid/fourrooms-v0"}


def required(option: str, place: str | None = None) -> list[str]:
    """Overrides that give ``option`` (``group/name``) a value of the right kind for every ``???``.

    Args:
        option: As ``dtx ls`` shows it. place: Where it is composed; by default at its group.
    """
    group = option.rpartition("/")[0]
    raw = OmegaConf.to_container(OmegaConf.load(CONF / f"{option}.yaml"), resolve=False)
    assert isinstance(raw, dict)
    left = [name for name, value in raw.items() if value == "???"]
    return [f"{place or group}.{name}={_OF_THEIR_OWN.get(name, DIGEST)}" for name in left]
