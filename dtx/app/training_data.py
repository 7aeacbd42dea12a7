"""What the page needs of the demonstrations that a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dtx.dataset.episodes import Episodes, Split
from dtx.pairs.distance import distances, training_observations

MOST_VIEWS = 20_000
"""Views whose distance from the training data is kept."""


@dataclass(frozen=True)
class Returns:
    """What the episodes that a model was trained on earned: where its reward-to-go comes from."""

    lowest: float
    highest: float

    def about(self) -> dict[str, float]:
        """What the page is told; ``best`` is what is asked for at first."""
        return {"lowest": self.lowest, "highest": self.highest, "best": self.highest}


@dataclass(frozen=True)
class TrainingData:
    """What of a model's training data the page needs.

    Attributes:
        returns: Of its episodes. observations: (u, 7, 7, 3) uint8, the distinct ones.
        episodes: All of them, as views of the files; None where only the above was kept.
    """

    returns: Returns
    observations: np.ndarray
    episodes: Episodes | None = None
    _distance: dict[bytes, int] = field(default_factory=dict, compare=False, repr=False)

    def distances(self, views: np.ndarray) -> np.ndarray:
        """Cells by which views (t, 7, 7, 3) differ from the nearest observation, (t,) int64; each view is
        compared once, for a key shows all earlier ones again."""
        marks = [view.tobytes() for view in views]
        places = {mark: i for i, mark in enumerate(marks)}
        # Looked up once: the other lane may clear what is kept in between.
        known = {mark: self._distance.get(mark) for mark in places}
        if new := [mark for mark, distance in known.items() if distance is None]:
            found = distances(views[[places[mark] for mark in new]], self.observations)
            known |= dict(zip(new, found.tolist(), strict=True))
            if len(self._distance) > MOST_VIEWS:
                self._distance.clear()
            self._distance.update(known)
        return np.array([known[mark] for mark in marks], np.int64)

    @staticmethod
    def of(episodes: Episodes) -> TrainingData:
        """Of the training episodes of demonstrations."""
        returns = episodes.returns[np.asarray(episodes.split) == Split.TRAIN]
        lowest, highest = (round(float(x), 6) for x in (returns.min(), returns.max()))
        return TrainingData(Returns(lowest, highest), training_observations(episodes), episodes)
