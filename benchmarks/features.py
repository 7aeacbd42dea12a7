"""Time and memory of the best feature and threshold of every fact.

    python benchmarks/features.py              # a minute; --quick: a tenth of the rows

1,024 features of which 16 are on at a row, 500 facts, 200,000 rows, 10 thresholds: thresholds at quantiles,
the counts of all of them, the choice on one half of the rows and the scores on the other. CPU-seconds are
counted. The largest resident memory is that of the whole process, with the facts and features themselves
(126 MB); what the process has before they are drawn is told beside. The second line checks the
first: 200 drawn (feature, threshold, fact) by a direct count.
"""

from __future__ import annotations

import argparse
import os
import resource
import time

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from scipy.sparse import csc_array, csr_array

from dtx.analysis.features.coverage import choose, count, levels_of, score

ROWS, FEATURES, ON, FACTS, THRESHOLDS, GROUPS = 200_000, 1024, 16, 500, 10, 25


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    rows = ROWS // 10 if parser.parse_args().quick else ROWS
    before = peak()
    values, facts, weight, group = drawn(rows)
    half = np.arange(rows) % 2 == 0
    chosen_on, scored_on = np.flatnonzero(half), np.flatnonzero(~half)
    begin = time.process_time()
    levels = levels_of(values, chosen_on, weight, THRESHOLDS)
    cut = time.process_time()
    counts = count(levels, chosen_on, weight, facts)
    counted = time.process_time()
    choice = choose(counts)
    scores = score(levels, choice, scored_on, weight, facts, group)
    end = time.process_time()
    print(
        f"{FEATURES:,} features x {FACTS} facts x {rows:,} rows x {THRESHOLDS} thresholds: "
        f"{end - begin:.1f} CPU-s (thresholds {cut - begin:.1f}, counts {counted - cut:.1f}, "
        f"choice, scores {end - counted:.1f}); largest resident memory {peak():.0f} MB, {before:.0f} before; "
        f"mean F1 {np.nanmean(scores.f1):.3f}"
    )
    rng, worst = np.random.default_rng(1), 0.0
    whole = csc_array(levels.codes)
    for _ in range(200):
        feature, level, fact = (int(rng.integers(n)) for n in (FEATURES, THRESHOLDS, FACTS))
        on = np.zeros(rows, bool)
        at = slice(whole.indptr[feature], whole.indptr[feature + 1])
        on[whole.indices[at]] = whole.data[at] > level
        both = float(weight[on & half & facts[:, fact]].sum())
        worst = max(worst, abs(both - float(counts.together[feature, level, fact])))
    print(f"largest difference to a direct count: {worst:g} tokens")


def drawn(rows: int) -> tuple[csc_array, np.ndarray, np.ndarray, np.ndarray]:
    """Features (n, f), facts (n, m), weights (n,) and groups (n,): random, at rates as in Memory."""
    rng = np.random.default_rng(0)
    popular = rng.permutation(np.geomspace(1, 0.01, FEATURES))
    popular /= popular.sum()
    index = rng.choice(FEATURES, (rows, ON), p=popular).astype(np.int32)
    data = rng.exponential(size=(rows, ON)).astype(np.float32)
    start = np.arange(0, rows * ON + 1, ON, dtype=np.int32)
    values = csr_array((data.reshape(-1), index.reshape(-1), start), shape=(rows, FEATURES))
    values.sum_duplicates()
    facts = np.zeros((rows, FACTS), bool)
    for fact, share in enumerate(rng.uniform(0.01, 0.4, FACTS)):
        facts[:, fact] = rng.random(rows) < share
    weight = rng.geometric(0.5, rows)
    return csc_array(values), facts, weight, rng.integers(GROUPS, size=rows)


def peak() -> float:
    """Largest resident memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main()
