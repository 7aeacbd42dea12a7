"""Change features of every dictionary and of untrained networks' own, and say what that does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dtx.activations.stored import Activations
from dtx.analysis.core.result import Result, largest
from dtx.analysis.core.verdicts import Check
from dtx.analysis.core.windows import distinct_inputs
from dtx.analysis.feature_effects.circuit import COLUMNS as EDGE_COLUMNS
from dtx.analysis.feature_effects.circuit import edges
from dtx.analysis.feature_effects.curves import sets, single
from dtx.analysis.feature_effects.dictionary import Activity, Directions
from dtx.analysis.feature_effects.examine import (
    Chosen,
    Effects,
    Found,
    choose,
    clamped,
    margin,
    rows,
)
from dtx.analysis.feature_effects.identities import identities
from dtx.analysis.feature_effects.judge import judge
from dtx.analysis.feature_effects.measure import Edited, FeatureEdit
from dtx.analysis.feature_effects.patches import Patches
from dtx.analysis.feature_effects.played import Episodes as PlayedEpisodes
from dtx.analysis.feature_effects.sites import Site
from dtx.analysis.feature_effects.spec import (
    KL,
    LD,
    RETURN,
    SAMPLED,
    SIDES,
    TRAINED,
    FeatureEffectsSpec,
)
from dtx.analysis.feature_effects.windows import apart, episode_windows, of_episodes, pair_windows
from dtx.dataset.episodes import Episodes, Split
from dtx.dictionary.trained import Dictionaries
from dtx.dt.model import DecisionTransformerModel
from dtx.env.environment import Environment
from dtx.pairs.pair_set import PairBatch, PairSet
from dtx.progress import progress
from dtx.training.threads import one_thread


@dataclass(frozen=True)
class Given:
    """A network, its dictionaries, and the stored activations that they are of.

    Attributes:
        name: ``trained``, or which untrained one it is.
    """

    name: str
    model: DecisionTransformerModel
    dictionaries: Dictionaries
    stored: Activations

    @property
    def lines(self) -> list[dict]:
        """The dictionaries that were trained in full, a row each."""
        frame = self.dictionaries.frame
        chosen: list[dict] = frame[frame["how"] == "trained"].to_dict("records")
        return chosen


def compute(
    spec: FeatureEffectsSpec,
    given: Given,
    untrained: Sequence[Given],
    pairs: PairSet,
    episodes: Episodes,
    env: Environment,
) -> Result:
    """Examine every dictionary.

    Args:
        spec: What is changed and measured.
        given: The model. untrained: Networks without training, with dictionaries of their own.
        pairs: Declared pairs, whose logit difference (LD) is read.
        episodes: Demonstrations: features are chosen in training episodes, measured in held-out ones.
        env: Where episodes are played.

    Returns:
        Tables ``features`` (the chosen ones), ``effects`` (a row a chosen feature, side and measure, with the
        random features' 95% quantiles), ``clamped`` (LD by quantile and reward-to-go), ``played`` (change of
        return and outcome by target), ``margins`` (a row a dictionary, side and measure), ``sets`` (restored
        shares by set of features, dimensions and random features), ``parts`` (all features, the error, both)
        and ``edges`` (attribution and exact patch). Every row says model, dictionary, hook, width, sparsity
        and seed.
    """
    found: list[Found] = []
    total = sum(len(each.lines) for each in (given, *untrained))
    with one_thread(), progress("feature_effects", total, "dictionaries") as bar:
        for each in (given, *untrained):
            player = None
            if each is given and spec.played:
                player = PlayedEpisodes(spec, each.model, env)
            for line in each.lines:
                found.append(_examine(spec, each, line, pairs, episodes, player))
                bar.advance(1)
    own = [f for f in found if f.about["model"] == TRAINED]
    names = dict.fromkeys(name for f in found for name in f.tables)
    tables = {
        n: pd.concat(
            [_with(f.about, f.tables[n]) for f in found if n in f.tables], ignore_index=True
        )
        for n in names
    }
    tables["margins"] = _margins(found)
    metrics, controls, claims, problems = judge(spec, tables, own)
    return Result(
        metrics=metrics,
        checks=[
            Check(name=name, error=_worst(own, name), tolerance=spec.tolerance)
            for name in dict.fromkeys(n for f in own for n in f.errors)
        ],
        controls=controls,
        claims=claims,
        tables=tables,
        distinct_inputs=own[0].distinct if own else None,
        problems=problems,
    )  # fmt: skip


def _examine(
    spec: FeatureEffectsSpec,
    given: Given,
    line: dict,
    pairs: PairSet,
    episodes: Episodes,
    player: PlayedEpisodes | None,
) -> Found:
    """One dictionary; of an untrained network only what is compared."""
    model, sae = given.model, given.dictionaries[line["name"]]
    site, directions = Site.of(line["hook"]), Directions(sae)
    activity = _activity(spec, given.stored, directions, line["hook"])
    held_out = Split.VALIDATION if (np.asarray(episodes.split) == 1).any() else Split.TRAIN
    drawn = {
        s: of_episodes(episodes, model, s, spec.windows, spec.seed) for s in (Split.TRAIN, held_out)
    }
    training = Edited(episode_windows(model, site, drawn[Split.TRAIN]), directions, spec.at_once)
    chosen = choose(spec, training, directions, activity)
    batches = pairs.batches(model)
    windows, about = pair_windows(model, site, batches)
    at_pairs = Edited(windows, directions, spec.at_once)
    elsewhere = Edited(episode_windows(model, site, drawn[held_out]), directions, spec.at_once)
    places = range(len(chosen.features))
    edits = chosen.all_edits(places)
    measured = [
        Effects(LD, "layouts", about["variant"].to_numpy(dtype=str)),
        Effects(KL, "episodes", np.arange(sum(len(w.runs) for w in elsewhere.windows))),
    ]
    for effects, edited in zip(measured, (at_pairs, elsewhere), strict=True):
        effects.add(edits, edited.effects(edits))
    tables = {
        "features": chosen.table,
        "effects": pd.DataFrame([line for e in measured for line in rows(e, chosen, places)]),
    }
    margins = {(side, e.measure): margin(e, chosen, side) for e in measured for side in SIDES}
    errors: dict[str, float] = {}
    if given.name == TRAINED:
        tables["clamped"] = clamped(spec, chosen, activity, at_pairs, about)
        errors = identities(model, sae, directions, chosen, elsewhere)
        tables |= _patched(spec, model, site, directions, batches, pairs, errors)
    if player is not None:
        some = range(min(spec.played, len(chosen.features)))
        played, tables["played"] = _played(player, site, directions, chosen, some)
        tables["effects"] = pd.concat(
            [tables["effects"], pd.DataFrame(list(rows(played, chosen, some)))]
        )
        margins |= {(side, RETURN): margin(played, chosen, side, some) for side in SIDES}
    distinct = sum(distinct_inputs(w.runs.context) for w in [*at_pairs.windows, *elsewhere.windows])
    kept = {key: value for key, value in margins.items() if value is not None}
    return Found(_about(given, line), tables, kept, errors, distinct)


def _activity(
    spec: FeatureEffectsSpec, stored: Activations, directions: Directions, hook: str
) -> Activity:
    """Of all stored rows, or of so many of them drawn at random."""
    order = np.random.default_rng(spec.seed).permutation(len(stored))[:SAMPLED]
    order = np.sort(order)
    return Activity.of(directions, stored.array(hook)[order], stored.columns["count"][order])


def _patched(
    spec: FeatureEffectsSpec,
    model: DecisionTransformerModel,
    site: Site,
    directions: Directions,
    batches: Sequence[PairBatch],
    pairs: PairSet,
    errors: dict[str, float],
) -> dict[str, pd.DataFrame]:
    """Sets of features and edges of the circuit, of the pairs whose runs are apart; adds to the errors."""
    parts: dict[str, list[pd.DataFrame]] = {"sets": [], "parts": [], "edges": []}
    for batch in batches:
        index = apart(model, batch, pairs.min_ld_gap)
        if not len(index):
            continue
        patches = Patches(model, site, batch, index, directions, spec.at_once)
        parts["sets"].append(sets(patches, spec.sets, spec.controls, spec.seed))
        parts["parts"].append(single(patches))
        parts["edges"].append(edges(patches, spec.circuit_features, spec.threshold))
    tables = {name: pd.concat(some, ignore_index=True) for name, some in parts.items() if some}
    if "parts" in tables:
        rho = tables["parts"].groupby("part")["rho"]
        errors["features and error together bring the whole difference"] = largest(
            (rho.get_group("both") - 1).abs()
        )
        errors["patching no feature changes nothing"] = largest(rho.get_group("nothing").abs())
    empty = {"edges": pd.DataFrame(columns=EDGE_COLUMNS)}
    return empty | tables


def _played(
    player: PlayedEpisodes, site: Site, directions: Directions, chosen: Chosen, places: range
) -> tuple[Effects, pd.DataFrame]:
    """Returns and outcomes with chosen and random features changed."""
    edits = chosen.all_edits(places)
    table = player.effects(site.hook, directions, edits)
    first = table["edit"] == 0
    # An episode at both targets has the same random numbers: it counts once.
    effects = Effects(RETURN, "episodes", table["episode"][first].to_numpy())
    effects.add(edits, table["change"].to_numpy().reshape(len(edits), int(first.sum())))
    own = {
        edit: (place, side)
        for place in places
        for side in SIDES
        for edit in chosen.edits(place, side, "chosen")
    }
    return effects, pd.DataFrame(list(_outcomes(table, edits, own, chosen)))


def _outcomes(
    table: pd.DataFrame,
    edits: Sequence[FeatureEdit],
    own: Mapping[FeatureEdit, tuple[int, str]],
    chosen: Chosen,
) -> Iterator[dict]:
    """A line for each chosen feature, side and target: change of return, and share of other outcomes."""
    from dtx.statistics import mean_estimate, share_estimate

    for place, edit in enumerate(edits):
        if edit not in own:
            continue
        for target, some in table[table["edit"] == place].groupby("target", sort=False):
            change = mean_estimate(some["change"].to_numpy(), bounds=(-1, 1))
            flips = share_estimate(int(some["flip"].sum()), len(some))
            yield {
                "feature": chosen.features[own[edit][0]], "side": own[edit][1], "target": target,
                "value": change.value, **change.columns(), "other_outcome": flips.value,
                "other_outcome_low": flips.low, "other_outcome_high": flips.high,
            }  # fmt: skip


def _margins(found: Sequence[Found]) -> pd.DataFrame:
    """A row a dictionary, side and measure: the effects of chosen features beyond random ones."""
    from dtx.statistics import ratio_estimate

    lines = []
    for each in found:
        for (side, measure), some in each.margins.items():
            own, beyond = some.own_jc.sum(0), some.beyond_jc.sum(0)
            within = ratio_estimate(beyond, own, of="layouts" if measure == LD else "episodes")
            exceeds = (some.beyond_jc.mean(1) > 0).mean()
            lines.append({
                **each.about, "side": side, "measure": measure, "value": some.share, **within.columns(),
                "own": float(some.own_jc.mean()), "random_95": float((some.own_jc - some.beyond_jc).mean()),
                "exceed": float(exceeds), "features": len(some.own_jc),
            })  # fmt: skip
    columns = ["model", "dictionary", "side", "measure", "value", "low", "high", "n"]
    return pd.DataFrame(lines) if lines else pd.DataFrame(columns=columns)


def _worst(found: Sequence[Found], name: str) -> float:
    """Largest error of a check."""
    return largest(f.errors[name] for f in found if name in f.errors)


def _about(given: Given, line: dict) -> dict:
    return {
        "model": given.name, "dictionary": line["name"], "hook": line["hook"], "width": line["width"],
        "sparsity": line["sparsity"], "seed": line["seed"],
    }  # fmt: skip


def _with(about: dict, table: pd.DataFrame) -> pd.DataFrame:
    clash = {"seed": "dictionary_seed"} if "seed" in table else {}
    return pd.concat(
        [pd.DataFrame([about] * len(table), index=table.index).rename(columns=clash), table], axis=1
    )
