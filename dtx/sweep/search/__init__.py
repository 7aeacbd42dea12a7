"""Search for the best values of fields: ``dtx run -m hydra/sweeper=optuna``.

Optuna suggests the values of some trials, which are run as jobs of a sweep; then it is told how they came
out, and suggests more. The study is kept in a database beside the store, so the same command goes on with it.
"""
