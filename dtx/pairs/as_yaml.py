"""Write a declaration as a pairs file: ``conf/pairs/NAME.yaml``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from dtx.errors import UserError
from dtx.exchange.environments import overrides_of
from dtx.pairs.spec import PairsSpec


def as_yaml(spec: PairsSpec, name: str, config_dir: Path | None = None) -> str:
    """The text of a pairs file that makes the same pairs, with these demonstrations: ``${dataset}``.

    Args:
        spec: Its clean runs follow a script, as those of :func:`dtx.pairs.single.declaration`.
        name: Of the file, for the command in its first lines.
        config_dir: The user's own configs.

    Raises:
        UserError: No config of ``conf/env`` makes the environment.
    """
    overrides = overrides_of(spec.env, config_dir)
    if not overrides:
        raise UserError(
            f"{spec.env.id} is the environment of no config in conf/env, so no pairs file can name it"
        )
    option, *fields = overrides
    command = " ".join(["dtx plan target=pairs", f"pairs={name}", *fields])
    source, checks = spec.source, spec.checks
    prefix, contrast = source.prefix, spec.contrast
    lines = [
        (_title(spec), ""),
        (f"# {command}", ""),
        ("defaults:", ""),
        (f"  - override /env@_global_.env: {option.removeprefix('env=')}", ""),
        ("", ""),
        ("_target_: dtx.pairs.declared.Declared", ""),
        (f"env: {_env(fields)}", ""),
        ("dataset: ${dataset}", "demonstrations that observations are compared with; null: none"),
        ("source:", "the clean runs: every world with every reward-to-go"),
        (f"  variants: {_flow(source.variants)}", "layouts, seed:17 | all | how many to sample"),
        (f"  reward_to_go: {_flow(source.reward_to_go)}", "given at the start"),
        *_tokens(source.tokens),
        ("  prefix:", "the actions up to the step that a pair is about"),
        (f"    policy: {prefix.policy.value}", ""),
        (f"    actions: {_flow(prefix.actions)}", ""),
        ("    of: null", ""),
        (f"    longest: {prefix.longest}", ""),
        (f"at: {_flow(spec.at)}", "that step: a number of steps | a named state of the task"),
        (f"replay: {spec.replay.value}", "in the edited world: the same actions | policy"),
        ("edits:", "by name: a list of operations, applied one after the other"),
        *_edits(spec),
        ("contrast:", "LD = logit[pos] - logit[neg]"),
        (f"  pos: {contrast.pos}", ""),
        (f"  neg: {contrast.neg}", ""),
        (f"  at: {contrast.at.value}", ""),
        ("checks:", "a pair that fails one is rejected and counted"),
        (f"  same_length: {_flow(checks.same_length)}", ""),
        (f"  no_early_termination: {_flow(checks.no_early_termination)}", ""),
        (
            f"  min_ld_gap: {_flow(checks.min_ld_gap)}",
            "rho is missing where LD are closer than this",
        ),
        (f"seed: {spec.seed}", "of what layouts leave open, and of the choice of donors"),
    ]
    texts = [f"{text:<22} # {comment}" if comment else text for text, comment in lines]
    return "\n".join(texts) + "\n"


def _title(spec: PairsSpec) -> str:
    variants = spec.source.variants
    if isinstance(variants, (list, tuple)) and len(variants) > 1:
        return f"# A pair in {variants[0]}; the other worlds are those that its donors come from."
    return f"# Pairs in {_flow(variants)}."


def _env(fields: list[str]) -> str:
    """A reference, with the fields that differ from the config's."""
    if not fields:
        return "${env}"
    changed = [field.removeprefix("env.").replace("=", ": ", 1) for field in fields]
    return "{_base_: '${env}', " + ", ".join(changed) + "}"


def _tokens(tokens: dict[str, float]) -> list[tuple[str, str]]:
    what = "reward-to-go of single tokens instead, in both runs"
    return [(f"  tokens: {_flow(tokens)}", what)] if tokens else []


def _edits(spec: PairsSpec) -> Iterator[tuple[str, str]]:
    for name, operations in spec.edits.items():
        yield f"  {_flow(name)}:", ""
        for operation in operations:
            yield f"    - {_flow(operation)}", ""


def _flow(value: Any) -> str:
    """A value on one line of YAML."""
    if isinstance(value, tuple):
        value = list(value)
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=float("inf"))
    return text.removesuffix("\n...\n").strip()
