"""A real training that is pruned: the stage ends as after an interruption, and goes on from there."""

import optuna

from dtx.cli import main
from dtx.store.store import Store
from tests.fast import FAST

SEARCH = [
    *("hydra/sweeper=optuna", "hydra.sweeper.metric=dt/validation_loss", "hydra.sweeper.n_jobs=1"),
    *("hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_startup_trials=1"),
    *("hydra/sweeper/sampler=random", "hydra.sweeper.n_trials=5", "target=dt", "dt.steps=24"),
    "dt.optimiser.learning_rate=tag(log,interval(1e-6,1e-2))",
    "dt.optimiser.matrix_learning_rate=tag(log,interval(1e-6,5e-2))",
]


def test_a_training_that_falls_behind_is_pruned(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fast = [o for o in FAST if o.startswith(("agent.", "dataset.", "dt.")) and "dt.steps" not in o]
    assert main(["run", "-m", "dt=small", *fast, *SEARCH, "tracking.enabled=false"]) == 0
    told = capsys.readouterr().err
    storage = f"sqlite:///{tmp_path}/optuna.db"
    (name,) = optuna.get_all_study_names(storage)
    trials = optuna.load_study(study_name=name, storage=storage).trials
    states = [trial.state.name for trial in trials]
    pruned = [trial for trial in trials if trial.state.name == "PRUNED"]
    assert pruned and set(states) == {"COMPLETE", "PRUNED"} and "Traceback" not in told
    assert all(max(t.intermediate_values) < 24 for t in pruned)
    complete = [t for t in trials if t.state.name == "COMPLETE"]
    assert all(sorted(t.intermediate_values) == list(range(2, 25, 2)) for t in complete)
    assert all(t.value == t.intermediate_values[24] for t in complete)
    # What was trained is kept as after an interruption, and no half artefact is in the store.
    store = Store(tmp_path / "store")
    work = [path for path in (store.root / ".work").iterdir() if (path / "curves.jsonl").exists()]
    assert len(work) == len(pruned)
    assert len(list(store.root.glob("decision_transformer-*/done.json"))) == len(complete)
