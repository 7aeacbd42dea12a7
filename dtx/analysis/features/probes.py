"""Logistic probes of facts: on the few features that follow a fact best, and on a whole activation.

Fitted on some rows, with the threshold of best F1 there; scored by F1 on others.

Letters: n rows, f features, k chosen ones, d activation, m facts.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csc_array, csr_array
from scipy.special import expit

RIDGE = 1e-3
"""Weight in the mean loss of the squared coefficients of standardised inputs (of a dense probe: whitened)."""
STEPS, DENSE_STEPS = 20, 100
"""Of Newton's method, and of the accelerated gradient for all facts at once."""
ENOUGH = 1e-7
"""Newton's method ends where a step can lower the loss by less."""


def strongest(values: csr_array, facts: np.ndarray, weight: np.ndarray, k: int) -> np.ndarray:
    """(k, m) the features of largest correlation with each fact, in size; fewer where there are fewer.

    Args:
        values: (n, f). facts: (n, m) bool. weight: (n,).
    """
    total = float(weight.sum())
    mean = values.T @ weight / total
    square = values.multiply(values).T @ weight / total
    spread = np.sqrt(np.maximum(square - mean**2, 0))
    together = values.T @ (facts * weight[:, None].astype(np.float64)) / total
    share = weight @ facts / total
    covariance = np.abs(together - np.outer(mean, share))
    r = np.where(spread[:, None] > 1e-9, covariance / np.maximum(spread, 1e-9)[:, None], -1.0)
    return np.argsort(-r, axis=0, kind="stable")[:k]


def logistic(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Coefficients (k + 1,), the intercept last, of the weighted logistic regression with a small ridge.

    Args:
        x: (n, k). y: (n,) bool. weight: (n,), not all 0.
    """
    weight = weight / weight.sum()
    scale = np.sqrt(np.maximum(weight @ x**2 - (weight @ x) ** 2, 0))
    scale = np.where(scale > 1e-9, scale, 1.0)
    design = np.column_stack([x / scale, np.ones(len(x))])
    ridge = np.full(design.shape[1], RIDGE)
    ridge[-1] = 0
    share = np.clip(weight @ y, 1e-6, 1 - 1e-6)
    b = np.zeros(design.shape[1])
    b[-1] = np.log(share / (1 - share))

    def loss(b: np.ndarray) -> float:
        z = design @ b
        return float(weight @ (np.logaddexp(0, z) - y * z) + 0.5 * ridge @ b**2)

    now = loss(b)
    for _ in range(STEPS):
        p = expit(design @ b)
        gradient = design.T @ (weight * (p - y)) + ridge * b
        hessian = (design * (weight * np.maximum(p * (1 - p), 1e-9))[:, None]).T @ design
        hessian[np.diag_indices_from(hessian)] += ridge + 1e-9
        step = np.linalg.solve(hessian, gradient)
        if gradient @ step < ENOUGH:
            break
        size = 1.0
        while (then := loss(b - size * step)) > now and size > 1e-4:
            size /= 2
        b, now = b - size * step, min(then, now)
    return np.append(b[:-1] / scale, b[-1])


def sparse_probes(
    values: csr_array,
    facts: np.ndarray,
    weight: np.ndarray,
    fitted_on: np.ndarray,
    scored_on: np.ndarray,
    sizes: tuple[int, ...],
) -> np.ndarray:
    """F1 (sizes, m) of probes on so many features each: those of largest correlation with the fact.

    Args:
        values: (n, f) features. facts: (n, m) bool. weight: (n,).
        fitted_on, scored_on: Rows.
    """
    fit, test = values[fitted_on], values[scored_on]
    order = strongest(fit, facts[fitted_on], weight[fitted_on], max(sizes))
    columns = csc_array(fit), csc_array(test)
    f1 = np.full((len(sizes), facts.shape[1]), np.nan)
    for fact in range(facts.shape[1]):
        y, w = facts[fitted_on, fact], weight[fitted_on].astype(np.float64)
        x, x_test = (part[:, order[:, fact]].toarray().astype(np.float64) for part in columns)
        for i, k in enumerate(sizes):
            b = logistic(*_merged(x[:, :k], y, w))
            scores, scores_test = (each[:, :k] @ b[:-1] for each in (x, x_test))
            cut = best_cut(scores, y, w)
            f1[i, fact] = f1_of(scores_test > cut, facts[scored_on, fact], weight[scored_on])
    return f1


def _merged(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same sample with all rows where no feature is on as two: the fact true, and not."""
    some = x.any(1)
    off = ~some
    rest = np.array([weight[off & y].sum(), weight[off & ~y].sum()])
    return (
        np.concatenate([x[some], np.zeros((2, x.shape[1]))]),
        np.concatenate([y[some], [True, False]]),
        np.concatenate([weight[some], rest]),
    )


def dense_probes(
    x: np.ndarray,
    facts: np.ndarray,
    weight: np.ndarray,
    fitted_on: np.ndarray,
    scored_on: np.ndarray,
) -> np.ndarray:
    """F1 (m,) of probes on a whole activation (n, d); all facts are fitted at once.

    Whitened, the loss has the same largest curvature, 1/4, for every fact, which fixes the step of Nesterov's
    accelerated gradient.
    """
    w = weight[fitted_on] / weight[fitted_on].sum()
    fit = np.asarray(x[fitted_on], np.float64)
    mean = w @ fit
    values, vectors = np.linalg.eigh((fit - mean).T @ ((fit - mean) * w[:, None]))
    kept = values > 1e-6 * max(values.max(initial=0), 1e-300)
    whitening = vectors[:, kept] / np.sqrt(values[kept])
    design = np.column_stack([(fit - mean) @ whitening, np.ones(len(fit))]).astype(np.float32)
    y, each = facts[fitted_on].astype(np.float32), w.astype(np.float32)[:, None]
    b = np.zeros((design.shape[1], facts.shape[1]), np.float32)
    share = np.clip(w @ facts[fitted_on], 1e-6, 1 - 1e-6)
    b[-1] = np.log(share / (1 - share))
    ridge = np.full((len(b), 1), RIDGE, np.float32)
    ridge[-1] = 0
    step, ahead, before = 1 / (0.25 + RIDGE), b.copy(), b
    for number in range(DENSE_STEPS):
        gradient = design.T @ (each * (expit(design @ ahead) - y)) + ridge * ahead
        b = ahead - step * gradient
        ahead = b + number / (number + 3) * (b - before)
        before = b
    test = (np.asarray(x[scored_on], np.float64) - mean) @ whitening
    scores, scores_test = design[:, :-1] @ b[:-1], test @ b[:-1]
    found = np.full(facts.shape[1], np.nan)
    for fact in range(facts.shape[1]):
        cut = best_cut(scores[:, fact], facts[fitted_on, fact], weight[fitted_on])
        found[fact] = f1_of(scores_test[:, fact] > cut, facts[scored_on, fact], weight[scored_on])
    return found


def best_cut(scores: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    """The threshold above which a score says "true" with the largest F1: midway between two scores."""
    scores = np.asarray(scores, np.float64)
    order = np.argsort(-scores, kind="stable")
    ordered, w = scores[order], weight[order].astype(np.float64)
    both, alone = np.cumsum(w * y[order]), np.cumsum(w)
    f1 = 2 * both / np.maximum(alone + both[-1], 1e-300)
    last = np.append(ordered[1:] < ordered[:-1], True)  # equal scores are told alike
    best = int(np.where(last, f1, -1).argmax())
    if best == len(ordered) - 1:
        return -np.inf
    return float((ordered[best] + ordered[best + 1]) / 2)


def f1_of(told: np.ndarray, true: np.ndarray, weight: np.ndarray) -> float:
    """F1 of a yes or no (n,); NaN where the fact is never true."""
    positive = float(weight[true].sum())
    if not positive:
        return float("nan")
    return 2 * float(weight[told & true].sum()) / (float(weight[told].sum()) + positive)
