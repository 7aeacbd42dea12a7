"""What the raw input of a token tells of a feature: the control of every label.

Letters: n rows, g groups of equal input, p rows at which a feature is on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from dtx.analysis.labels.scores import F1, Half
from dtx.analysis.labels.trees import Trees, predicted


class Inputs:
    """Predicts features from the input of the token alone, in four ways.

    By lookup tables of any size: which views (of each kind of token), which steps, which whole inputs have
    the feature on. And by a tree as deep as the labels' over the input's one-hots. Each is fitted to
    one half.

    Args:
        columns: Of the rows: ``kind``, ``view``, ``step``.
        inputs: (r, c) uint8, one-hots of the token's input.
        fit, score: The halves. depth: Of the tree.
    """

    def __init__(
        self,
        columns: Mapping[str, np.ndarray],
        inputs: np.ndarray,
        fit: Half,
        score: Half,
        depth: int,
    ):
        self._fit, self._score = fit, score
        kind = columns["kind"].astype(np.int64)
        packed = np.ascontiguousarray(np.packbits(inputs.astype(bool), axis=1))
        whole = packed.view(f"V{packed.shape[1]}").reshape(-1)
        keys = {
            "view": np.stack([kind, columns["view"].astype(np.int64)]),
            "step": np.stack([kind, columns["step"].astype(np.int64)]),
            "whole input": np.stack([kind, np.unique(whole, return_inverse=True)[1]]),
        }
        self.groups = {
            name: np.unique(key, axis=1, return_inverse=True)[1].reshape(-1)
            for name, key in keys.items()
        }
        # A group that a half lacks is predicted off there.
        self._weight = {
            name: np.bincount(code[fit.rows], fit.weight, code.max() + 1)
            for name, code in self.groups.items()
        }
        self._values = inputs[score.rows].astype(bool)
        self._trees = Trees(inputs[fit.rows].astype(bool), fit.weight, depth)

    def predictions(self, on_fit: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Yield (way, prediction (n,) bool on the scored half) of a feature by its rows (p,) of the other."""
        for name, code in self.groups.items():
            chosen = self._chosen(name, code[self._fit.rows], on_fit)
            yield name, chosen[code[self._score.rows]]
        yield "tree over the input", predicted(self._trees.fit(on_fit), self._values)

    def best(self, on_fit: np.ndarray, on_score: np.ndarray) -> tuple[str, F1]:
        """The way that does best on the scored half, which is generous to it, and its score."""
        found = list(self.predictions(on_fit))
        scores = [self._score.f1(on_score, prediction) for _, prediction in found]
        name, prediction = found[int(np.argmax(scores))]
        return name, self._score.with_influence(on_score, prediction)

    def _chosen(self, name: str, code_n: np.ndarray, on: np.ndarray) -> np.ndarray:
        """(g,) bool: the groups that together give the best F1 on the half that is fitted to."""
        weight_g = self._weight[name]
        chosen_g = np.zeros(len(weight_g), bool)
        groups, place = np.unique(code_n[on], return_inverse=True)
        positive = np.bincount(place.reshape(-1), self._fit.weight[on], len(groups))
        order = np.argsort(-positive / weight_g[groups], kind="stable")
        both, size = np.cumsum(positive[order]), np.cumsum(weight_g[groups][order])
        best = int((2 * both / (size + positive.sum())).argmax())
        chosen_g[groups[order[: best + 1]]] = True
        return chosen_g
