"""Decision trees over boolean facts, and the sentences that they are.

The trees are those of scikit-learn's ``DecisionTreeClassifier`` (Gini impurity, best split first by name;
a test holds the two against each other). Here thousands of them are fitted to the same facts: sums over the
tokens of a node are shared by all trees that have it, so that a tree costs what its few positive rows cost.

Letters: n rows, m facts, p rows at which a feature is on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dtx.analysis.labels.spec import LEAF, SIMPLER

Path = tuple[tuple[int, bool], ...]
"""Facts and their values on the way to a node, by number of the fact."""


@dataclass
class Node:
    """A node of a fitted tree.

    Attributes:
        weight: Of its tokens. positive: Of those at which the feature is on.
        fact: Number of the fact that divides it; -1: a leaf.
        yes, no: Its halves.
        on: Whether a leaf belongs to the label.
    """

    weight: float
    positive: float
    fact: int = -1
    yes: Node | None = None
    no: Node | None = None
    on: bool = False

    @property
    def halves(self) -> tuple[Node, Node] | None:
        """Where the fact holds, and where it does not; None: a leaf."""
        return None if self.yes is None or self.no is None else (self.yes, self.no)

    def leaves(self) -> Iterator[Node]:
        """All leaves below."""
        if self.halves is None:
            yield self
        else:
            for half in self.halves:
                yield from half.leaves()

    def cut(self, depth: int) -> Node:
        """The tree down to a depth."""
        if depth == 0 or self.halves is None:
            return Node(self.weight, self.positive)
        yes, no = (half.cut(depth - 1) for half in self.halves)
        return Node(self.weight, self.positive, self.fact, yes, no)

    def impurity(self) -> float:
        """Gini impurity of the leaves, in weight of tokens."""
        return sum(_gini(leaf.weight, leaf.positive) for leaf in self.leaves())


class Trees:
    """Fits trees to features over the same facts at the same rows.

    Args:
        values: (n, m) bool, the facts. weight: (n,) how often each row occurs.
        depth: Of the trees, at most.
    """

    def __init__(self, values: np.ndarray, weight: np.ndarray, depth: int):
        self.depth, self.weight = depth, np.asarray(weight, np.float64)
        # Counts are whole: float32 adds them exactly below 2**24, at half the memory traffic.
        whole = bool((self.weight % 1 == 0).all()) and float(self.weight.sum()) < 2**24
        self._kind = np.float32 if whole else np.float64
        self._given = self.weight.astype(self._kind)
        self._facts_nm = np.ascontiguousarray(values, self._kind)
        self._columns_mn = np.ascontiguousarray(values.T, bool)
        self._total = float(self.weight.sum())
        every = np.arange(len(values))
        self._nodes: dict[Path, tuple[np.ndarray, np.ndarray]] = {(): self._sums(every)}

    def fit(self, on: np.ndarray) -> Node:
        """The label of a feature as a tree: as deep as its F1 on these rows asks for.

        Args:
            on: (p,) numbers of the rows at which the feature is on.
        """
        whole = self._grown((), np.asarray(on), self.depth)
        best, found = -1.0, whole
        for depth in range(self.depth + 1):
            tree = whole.cut(depth)
            f1 = _choose(tree)
            if f1 > best + SIMPLER:
                best, found = f1, tree
        return found

    def grown(self, on: np.ndarray) -> Node:
        """The whole tree of a feature, which :meth:`fit` simplifies; no leaf is chosen yet."""
        return self._grown((), np.asarray(on), self.depth)

    def _grown(self, path: Path, on: np.ndarray, depth: int) -> Node:
        rows, sums_m = self._nodes[path]
        total = float(sums_m[-1])
        weight_p = self.weight[on]
        node = Node(total, float(weight_p.sum()))
        if depth == 0 or _gini(total, node.positive) <= 1e-12 * self._total:
            return node
        held_m = (self._given[on] @ self._facts_nm[on]).astype(np.float64)
        after_m = _after(sums_m[:-1], held_m, total, node.positive, LEAF * self._total)
        best = int(after_m.argmin())
        if after_m[best] >= _gini(total, node.positive) - 1e-9 * self._total:
            return node
        node.fact = best
        self._divide(path, rows, best)
        holds = self._columns_mn[best, on]
        node.yes = self._grown((*path, (best, True)), on[holds], depth - 1)
        node.no = self._grown((*path, (best, False)), on[~holds], depth - 1)
        return node

    def _divide(self, path: Path, rows: np.ndarray, fact: int) -> None:
        """Sums of the two halves of a node; the larger half's follow from the smaller's."""
        if (*path, (fact, True)) in self._nodes:
            return
        holds = self._columns_mn[fact, rows]
        halves = {True: rows[holds], False: rows[~holds]}
        fewer = len(halves[True]) <= len(halves[False])
        small = self._sums(halves[fewer])
        self._nodes[*path, (fact, fewer)] = small
        self._nodes[*path, (fact, not fewer)] = (halves[not fewer], self._nodes[path][1] - small[1])

    def _sums(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows of a node, and the weight of those with each fact, (m + 1,): last of all."""
        sums = np.zeros(self._facts_nm.shape[1] + 1)
        for begin in range(0, len(rows), 8192):
            part = rows[begin : begin + 8192]
            sums[:-1] += self._given[part] @ self._facts_nm[part]
        sums[-1] = self.weight[rows].sum()
        return rows, sums


def _gini(weight: float, positive: float) -> float:
    return 2 * positive * (weight - positive) / weight if weight > 0 else 0.0


def _after(
    weight_m: np.ndarray, positive_m: np.ndarray, total: float, positive: float, leaf: float
) -> np.ndarray:
    """(m,) Gini impurity of a node divided by each fact; infinite where a half is too small."""
    other_m, other_positive_m = total - weight_m, positive - positive_m
    with np.errstate(divide="ignore", invalid="ignore"):
        after_m = 2 * positive_m * (weight_m - positive_m) / weight_m
        after_m += 2 * other_positive_m * (other_m - other_positive_m) / other_m
    return np.where((weight_m >= leaf) & (other_m >= leaf), after_m, np.inf)


def _choose(tree: Node) -> float:
    """Switch on the leaves that give the best F1, and return that: purest leaves first."""
    leaves = sorted(tree.leaves(), key=lambda leaf: -leaf.positive / max(leaf.weight, 1e-300))
    positive = np.cumsum([leaf.positive for leaf in leaves])
    weight = np.cumsum([leaf.weight for leaf in leaves])
    f1 = 2 * positive / np.maximum(weight + tree.positive, 1e-300)
    best = int(f1.argmax())
    for place, leaf in enumerate(leaves):
        leaf.on = place <= best
    return float(f1[best])


def predicted(tree: Node, values: np.ndarray) -> np.ndarray:
    """(n,) bool: where the label holds, walked down the tree.

    Args:
        tree: The label. values: (n, m) bool, the facts at any rows.
    """
    if tree.halves is None:
        return np.full(len(values), tree.on)
    yes, no = tree.halves
    holds = values[:, tree.fact]
    return np.where(holds, predicted(yes, values), predicted(no, values))


# --- sentences ---


@dataclass(frozen=True)
class Term:
    """A label as an expression: a fact or its opposite, or ``and``/``or`` of parts.

    Attributes:
        word: ``fact``, ``not``, ``and``, ``or``, ``always``, ``never``.
        fact: Number of the fact, of the first two. parts: Of ``and`` and ``or``.
    """

    word: str
    fact: int = -1
    parts: tuple[Term, ...] = ()

    def holds(self, values: np.ndarray) -> np.ndarray:
        """(n,) bool where it is true, of facts (n, m)."""
        if self.word == "fact":
            return values[:, self.fact].astype(bool)
        if self.word == "not":
            return ~values[:, self.fact].astype(bool)
        if self.word in ("always", "never"):
            return np.full(len(values), self.word == "always")
        join = np.logical_and if self.word == "and" else np.logical_or
        return join.reduce([part.holds(values) for part in self.parts])

    def facts(self) -> list[int]:
        """Numbers of the facts in it, each once."""
        own = [self.fact] if self.fact >= 0 else []
        return list(dict.fromkeys([*own, *(f for part in self.parts for f in part.facts())]))


def term(tree: Node) -> Term:
    """A tree as an expression without parts that say nothing."""
    if tree.halves is None:
        return Term("always" if tree.on else "never")
    yes, no = (term(half) for half in tree.halves)
    if yes == no:
        return yes
    fact, opposite = Term("fact", tree.fact), Term("not", tree.fact)
    first, second = _joined("and", fact, yes), _joined("and", opposite, no)
    if yes.word == "always":
        return _joined("or", fact, no)
    if no.word == "always":
        return _joined("or", opposite, yes)
    return _joined("or", first, second)


def _joined(word: str, one: Term, other: Term) -> Term:
    neutral, final = ("always", "never") if word == "and" else ("never", "always")
    if final in (one.word, other.word):
        return Term(final)
    parts = [
        part
        for side in (one, other)
        for part in (side.parts if side.word == word else (side,))
        if part.word != neutral
    ]
    if not parts:
        return Term(neutral)
    return parts[0] if len(parts) == 1 else Term(word, parts=tuple(parts))


def sentence(label: Term, names: Sequence[str], inner: bool = False) -> str:
    """A label in words: ``ball ahead and reward-to-go >= .45``.

    Args:
        label: The expression. names: Of the facts. inner: Put brackets around it if it has parts.
    """
    if label.word == "fact":
        return names[label.fact]
    if label.word == "not":
        return opposite_of(names[label.fact])
    if label.word in ("always", "never"):
        return label.word
    text = f" {label.word} ".join(sentence(part, names, True) for part in label.parts)
    return f"({text})" if inner else text


_BOUND = re.compile(r"(.*) (>=|<|<=|>|=|is) (.*)")
_JOINED = re.compile(r" (and|or|not|x) ")
_OPPOSITES = {">=": "<", "<": ">=", "<=": ">", ">": "<=", "=": "is not", "is": "is not"}


def opposite_of(name: str) -> str:
    """The opposite of a fact in words: ``reward-to-go < .45`` of ``reward-to-go >= .45``."""
    found = None if _JOINED.search(name) else _BOUND.fullmatch(name)
    return f"not ({name})" if found is None else f"{found[1]} {_OPPOSITES[found[2]]} {found[3]}"
