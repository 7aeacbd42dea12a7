"""Read, splice and play every dictionary and every control of it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from dtx.activations.stored import Part
from dtx.analysis.core.result import Check, Result
from dtx.analysis.dictionaries.candidates import Candidate, Network, all_of, own_of
from dtx.analysis.dictionaries.claims import judge
from dtx.analysis.dictionaries.groups import grouped
from dtx.analysis.dictionaries.judging import Judge, Lines, Unedited
from dtx.analysis.dictionaries.measure import States
from dtx.analysis.dictionaries.play import play
from dtx.analysis.dictionaries.spec import TRAINED, DictionariesSpec
from dtx.dataset.episodes import Episodes
from dtx.dictionary.trained import Dictionaries
from dtx.dt.rollout import Place
from dtx.progress import Bar, progress
from dtx.training.threads import one_thread


def compute(
    spec: DictionariesSpec,
    network: Network,
    held_back: Dictionaries,
    untrained: Sequence[Network],
    env: Place,
    episodes: Episodes,
    split: str,
) -> Result:
    """Judge dictionaries beside their controls.

    Args:
        spec: What is asked for and how much is played.
        network: The model in question, with its dictionaries.
        held_back: Dictionaries of the same activations of which a part stays random.
        untrained: Networks of the same architecture, each with its own dictionaries.
        env: Where the model acts.
        episodes: The demonstrations; windows of those that the model was not trained on are read.
        split: By what the rows are held out that are read: ``episode``, ``prefix`` or ``view``.

    Returns:
        Tables ``dictionaries``: one row a dictionary: kind, name, hook, width, sparsity (as set), seed, l0,
        dead_share. ``numbers``: one row a dictionary, measure and target: value, low, high, n, interval
        (the measures stand in :mod:`dtx.analysis.dictionaries.spec`; target is missing where none is asked
        for). ``groups``: the same over seeds: seeds says how many, l0 is their mean. ``outcomes``: one row
        a dictionary and target: share of the episodes by outcome. ``density``: one row a dictionary and
        bin: from, to (powers of ten), features. ``smallest``: one row a kind, hook and width: the smallest
        l0 that keeps the return at the high target.
    """
    frame = network.dictionaries.frame
    hooks = list(dict.fromkeys(frame["hook"]))
    lines, checks = Lines(), []
    states = States.of(episodes, network.model, spec.windows, spec.seed)
    total = len(hooks) * (1 + len(untrained))
    with one_thread(), progress("dictionaries", total, "hooks") as bar:
        unedited = _unedited(spec, network, states, env, spec.episodes)
        for hook in hooks:
            some = list(all_of(spec, network, held_back, hook, split))
            checks += _judged(
                spec, network, unedited, some, env, split, spec.episodes, lines, bar, True
            )
        for number, twin in enumerate(untrained):
            unedited = _unedited(spec, twin, states, env, spec.control_episodes)
            for hook in hooks:
                some = list(own_of(twin, hook, number, split))
                _judged(
                    spec, twin, unedited, some, env, split, spec.control_episodes, lines, bar, False
                )
    numbers = pd.DataFrame(lines.numbers)
    tables = {
        "dictionaries": pd.DataFrame(lines.dictionaries),
        "numbers": numbers,
        "groups": grouped(numbers),
        "outcomes": pd.DataFrame(lines.outcomes),
        "density": pd.DataFrame(lines.density),
    }
    distinct = len(network.stored.rows(split, Part.HELD_OUT))
    return judge(spec, tables, checks, distinct)


def _unedited(
    spec: DictionariesSpec, network: Network, states: States, env: Place, episodes: int
) -> Unedited:
    logits_sa = states.logits(network.model)
    return Unedited(states, logits_sa, play(spec, network.model, env, episodes))


def _judged(
    spec: DictionariesSpec,
    network: Network,
    unedited: Unedited,
    some: list[Candidate],
    env: Place,
    split: str,
    episodes: int,
    lines: Lines,
    bar: Bar,
    model: bool,
) -> list[Check]:
    """Add the numbers of a hook's dictionaries; of the model itself all controls and the exact checks."""
    mean, rest = some[0], some[1:]
    judge_of = Judge(spec, network, unedited, mean, env, split, episodes)
    for place, candidate in enumerate(some if model else rest):
        bar.advance(1 / len(some), f"{place + 1} of {len(some)}: {candidate.kind}")
        judge_of.add(candidate, lines, always=model)
    if not model:
        bar.advance(1 / len(some))
        return []
    trained = next(candidate for candidate in rest if candidate.kind == TRAINED)
    return list(judge_of.checks(rest[0], trained))
