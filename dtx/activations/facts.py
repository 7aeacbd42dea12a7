"""Facts at the rows of stored activations: what is true where each vector was computed.

::

    table = FactTable.of(stored, dataset, {"near_key": "abs(x - key_x) + abs(y - key_y) <= 1"})
    table.values[:, table.names.index("ball ahead")]  # (r,) bool

A row is a prefix, and stands for all places at which it occurs; the facts are those of the one place that
the store names. Facts that the prefix tells are the same at all of them; of hidden ones it is a fair draw.

Letters: r rows, m facts, c inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from dtx.activations.raw_inputs import RawInputs
from dtx.activations.stored import Activations
from dtx.dataset.dataset import Dataset
from dtx.dataset.facts import Facts, check_derived
from dtx.dt.fact_kinds import (
    EARLIER,
    GROUPS,
    HIDDEN,
    SEEN,
    Quantity,
    Rows,
    joined,
    of_actions,
    of_pose,
    of_reward_to_go,
    of_time,
    of_world,
    reward_to_go_at,
)
from dtx.dt.tokens import KINDS, REWARD_TO_GO
from dtx.errors import UserError

_BY_KNOWN = (SEEN, EARLIER, HIDDEN)


@dataclass(frozen=True, eq=False)
class FactTable:
    """Facts at r stored rows.

    Attributes:
        names: m names: ``instruction = ball``, ``ball ahead``, ``action = left``, ``reward-to-go >= 0.446``.
        values: (r, m) bool, whether each is true.
        known: (r, m) uint8 of :class:`dtx.dataset.facts.Availability`: what the row's window shows of it up
            to the row's token.
        group: m: ``view``, ``earlier`` or ``hidden``, as the windows of most tokens show it; ``computed``
            from several; or ``reward_to_go``, ``action``, ``time``.
        also: Other names of a fact that is true at just the same rows, by its name.
        raw: What :meth:`inputs` is made of.
    """

    names: list[str]
    values: np.ndarray
    known: np.ndarray
    group: list[str]
    also: dict[str, list[str]] = field(default_factory=dict)
    raw: RawInputs | None = None

    @classmethod
    def of(
        cls,
        stored: Activations,
        dataset: Dataset,
        derived: Mapping[str, str] | None = None,
        rows: np.ndarray | None = None,
        least: float = 0.005,
    ) -> FactTable:
        """The facts at stored rows.

        Args:
            stored: Activations.
            dataset: The demonstrations that they are of, with facts.
            derived: Expressions over facts of the world, by name; see :mod:`dtx.dataset.facts`.
            rows: (r,) numbers of rows, in their order; None: all.
            least: Facts that are true at a smaller share of the tokens, or false at one, are left out.

        Raises:
            UserError: The activations are of other demonstrations, there are no facts, or an expression is
                wrong.
        """
        if stored.about.get("dataset") != dataset.label:
            raise UserError(
                f"{stored.folder.name}: activations on {stored.about.get('dataset')}, not on "
                f"{dataset.label}; facts must be of the same demonstrations"
            )
        facts = dataset.load_facts(derived)
        env = dataset.environment
        assert env is not None  # there would be no facts
        read, episodes = _read(stored, facts, rows), facts.episodes
        to_go = reward_to_go_at(episodes, read)
        quantities = [
            *of_world(facts, read),
            *of_reward_to_go(to_go, read),
            of_actions(episodes, read),
            *of_time(read),
            *joined(facts, env, to_go, read),
            *of_pose(facts, read),
        ]
        names, values, known, group, also = _filled(quantities, read, least)
        return cls(
            names=names,
            values=values,
            known=known,
            group=group,
            also=also,
            raw=RawInputs(read, episodes, least),
        )

    def __len__(self) -> int:
        return len(self.values)

    def inputs(self) -> np.ndarray:
        """(r, c) uint8: what the token itself is, and the view of its step, as one-hots.

        The view is that of S and A tokens, reward-to-go that of R tokens, the action that of A tokens;
        reward-to-go and time also as thresholds, the facts' own. A control: what the raw input tells.
        """
        assert self.raw is not None
        return self.raw.columns()

    @property
    def input_names(self) -> list[str]:
        """Names of the columns of :meth:`inputs`: ``view 3,5 = ball``, ``own action = left``."""
        assert self.raw is not None
        return [name for name, _ in self.raw]


def check_facts(dataset: Dataset, derived: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(field, what is wrong) where a dataset will have no facts, or an expression is wrong, as far as its
    config says; for a stage with the fields ``dataset`` (or activations of one) and ``facts``."""
    env = dataset.environment
    if dataset.has_facts is False:
        yield "dataset", "no facts are recorded; record them with dataset.facts=true"
    elif env is not None and env.roles is None:
        yield "dataset", f"{type(env).__name__} has no roles, so there are no facts"
    elif env is not None:
        for name, problem in check_derived(derived, env):
            yield f"facts.{name}", problem


def _read(stored: Activations, facts: Facts, rows: np.ndarray | None) -> Rows:
    columns = stored.columns
    some = slice(None) if rows is None else np.asarray(rows)
    episode, step, kind, start, view, count = (
        columns[name][some] for name in ("episode", "step", "kind", "start", "view", "count")
    )
    first = np.asarray(facts.episodes.start)[episode]
    at = first + step
    before_view = kind == KINDS.index(REWARD_TO_GO)
    layout = stored.about.get("layout", "RSA")
    return Rows(
        at=at,
        begin=first + start,
        until=at - before_view,
        step=np.asarray(step),
        kind=np.asarray(kind),
        view=np.asarray(view),
        weight=np.asarray(count).astype(np.float64),
        reads_reward_to_go=REWARD_TO_GO in layout,
    )


def _filled(
    quantities: list[Quantity], rows: Rows, least: float
) -> tuple[list[str], np.ndarray, np.ndarray, list[str], dict[str, list[str]]]:
    """Names, values, what is known, groups and other names of the facts that are not nearly constant."""
    total = rows.weight.sum()
    chosen: list[tuple[Quantity, list[tuple[int, float]]]] = []
    for one in quantities:
        true = np.bincount(one.code(), weights=rows.weight, minlength=len(one.names)) / total
        kept = [
            (i, true[i])
            for i, name in enumerate(one.names)
            if name is not None and least <= true[i] <= 1 - least and 0 < true[i] < 1
        ]
        if kept:
            chosen.append((one, kept))
    most = sum(len(kept) for _, kept in chosen)
    values = np.zeros((len(rows), most), bool, order="F")
    known = np.zeros((len(rows), most), np.uint8, order="F")
    names: list[str] = []
    group: list[str] = []
    also: dict[str, list[str]] = {}
    alike: dict[float, list[int]] = {}
    for one, kept in chosen:
        code, shown = one.code(), one.known()
        mode = np.bincount(shown, weights=rows.weight, minlength=len(_BY_KNOWN)).argmax()
        for value, share in kept:
            column, name = code == value, one.names[value]
            assert name is not None
            there = alike.setdefault(round(float(share), 9), [])
            same = next((i for i in there if (values[:, i] == column).all()), None)
            if same is not None:
                also.setdefault(names[same], []).append(name)
                continue
            place = len(names)
            there.append(place)
            values[:, place], known[:, place] = column, shown
            names.append(name)
            group.append(one.group or _BY_KNOWN[mode])
    assert set(group) <= set(GROUPS)
    return names, values[:, : len(names)], known[:, : len(names)], group, also
