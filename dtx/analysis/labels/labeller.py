"""Labels by whoever is asked, scored by detection; and one that answers from a record.

A labeller sees states at which a feature is on and states without it, drawn with letters, and writes a
label. Then it is shown other states and says which of them the label describes. Nothing is asked unless the
config names a labeller: dtx has no key, uses no network, and never puts a label where none was given.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from dtx.analysis.labels.judging import Judge
from dtx.analysis.labels.sources import Source
from dtx.analysis.labels.spec import Labeller, State
from dtx.analysis.labels.trees import predicted
from dtx.errors import UserError

COLUMNS = (
    "dictionary",
    "feature",
    "label",
    "balanced_accuracy",
    "tree",
    "tree_balanced_accuracy",
    "states",
)
"""Of the table ``detection``: the tree's label is scored on the same states."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """Answers from a record, in the place of asking: what was asked once is never asked again.

    Each line of the file is ``{"asked": SHA-256, "answer": ...}``: of :func:`asked_label` a text, of
    :func:`asked_detection` a list of true and false. What is asked and not on record is written to a file
    beside it, ``NAME.missing.jsonl``, with its text, so that somebody can answer it.

    Attributes:
        path: The record, JSON lines. sha256: Of the file; another record is another result.
    """

    path: Path
    sha256: str

    def label(self, states: Sequence[State]) -> str:
        """The recorded label.

        Raises:
            UserError: It is not on record, or is empty.
        """
        answer = self._answer(asked_label(states))
        if not isinstance(answer, str) or not answer.strip():
            raise UserError(f"{self.path}: a label must be a text, not {answer!r}")
        return answer.strip()

    def detect(self, label: str, states: Sequence[str]) -> Sequence[bool]:
        """The recorded answers.

        Raises:
            UserError: They are not on record, or not one for each state.
        """
        answer = self._answer(asked_detection(label, states))
        answers = answer if isinstance(answer, list) else []
        right = all(isinstance(each, bool) for each in answers)
        if not right or len(answers) != len(states):
            raise UserError(
                f"{self.path}: {len(states)} answers true or false are needed, not {answer!r}"
            )
        return answers

    def _answer(self, text: str) -> object:
        key = digest(text)
        if key in self._answers:
            return self._answers[key]
        missing = self.path.with_suffix(".missing.jsonl")
        with missing.open("a", encoding="utf-8") as out:
            out.write(json.dumps({"asked": key, "text": text}) + "\n")
        raise UserError(
            f"{self.path}: has no answer to {key[:12]}; the text is in {missing.name}: add its answer as "
            'a line {"asked": ..., "answer": ...}'
        )

    @cached_property
    def _answers(self) -> dict[str, object]:
        try:
            data = self.path.read_bytes()
            if (found := hashlib.sha256(data).hexdigest()) != self.sha256:
                raise UserError(f"{self.path}: its SHA-256 is {found}, not {self.sha256}")
            lines = [json.loads(line) for line in data.decode().splitlines() if line.strip()]
            return {str(line["asked"]): line["answer"] for line in lines}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.path}: is no record of answers ({error})") from None


def digest(text: str) -> str:
    """By what an answer is found: SHA-256 of what was asked."""
    return hashlib.sha256(text.encode()).hexdigest()


def asked_label(states: Sequence[State]) -> str:
    """What is asked for a label, as a text."""
    shown = "\n\n".join(f"activation {s.activation:.2f}\n{s.text}" for s in states)
    return f"Say in a few words when the feature is on. States, strongest first:\n\n{shown}\n"


def asked_detection(label: str, states: Sequence[str]) -> str:
    """What is asked for detection, as a text."""
    shown = "\n\n".join(f"state {i}\n{text}" for i, text in enumerate(states, 1))
    return f"Which of these states does this describe: {label}\n\n{shown}\n"


def detection(
    labeller: Labeller,
    judge: Judge,
    source: Source,
    features: Sequence[int],
    texts: Sequence[str],
    shown: int,
    seed: int,
) -> pd.DataFrame:
    """Ask for a label of each feature, and score it and the tree's label by detection.

    Args:
        labeller: Is asked. judge: Halves and trees. source: Whose features.
        features: Which. texts: (r,) each row as drawn states are.
        shown: States with and states without the feature that are shown, and as many more that are judged.
        seed: Of the states.

    Returns:
        The columns :data:`COLUMNS`, one row a feature.

    Raises:
        UserError: An answer is empty or incomplete.
    """
    rng, rows = np.random.default_rng(seed), []
    value = source.active.tocsc()
    for feature in features:
        at = judge.live(source.on(feature))
        if at is None:
            continue
        fit, score = judge.fit, judge.score
        off = [
            np.setdiff1d(np.arange(len(h.rows)), on) for h, on in zip((fit, score), at, strict=True)
        ]
        activation = value[fit.rows[at[0]], feature].toarray().reshape(-1)
        strongest = at[0][np.argsort(-activation, kind="stable")[:shown]]
        without = rng.choice(off[0], min(shown, len(off[0])), replace=False)
        states = [
            State(texts[fit.rows[i]], float(value[fit.rows[i], feature]))
            for i in (*strongest, *without)
        ]
        label = labeller.label(states)
        if not label.strip():
            raise UserError(f"analysis.labels.labeller: no label for feature {feature}")
        with_it, rest = (rng.choice(o, min(shown, len(o)), replace=False) for o in (at[1], off[1]))
        judged = rng.permutation(np.concatenate([with_it, rest]))
        truth = np.isin(judged, with_it)
        answers = np.array(labeller.detect(label, [texts[score.rows[i]] for i in judged]), bool)
        if answers.shape != truth.shape:
            raise UserError(
                f"analysis.labels.labeller: {answers.size} answers of {truth.size} states"
            )
        tree = judge.trees.fit(at[0])
        by_tree = predicted(tree, score.values[judged])
        rows.append(
            {
                "dictionary": source.name,
                "feature": feature,
                "label": label,
                "balanced_accuracy": _balanced(truth, answers),
                "tree": judge.words(tree),
                "tree_balanced_accuracy": _balanced(truth, by_tree),
                "states": len(judged),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _balanced(truth: np.ndarray, answer: np.ndarray) -> float:
    return float((answer[truth].mean() + (~answer[~truth]).mean()) / 2)
