import pandas as pd

from dtx.analysis.core.claims import Claim, read_claims, summarise, verdict, write_claims
from dtx.report import Report

CLAIM = Claim(claim="it turns", wanted="above .5", found="0.7", verdict=verdict(True))


def test_verdicts():
    assert verdict(True) == "confirmed"
    assert verdict(False, partly=True) == "depends"
    assert verdict(False) == "not confirmed"


def test_claims_are_written_as_table_and_sentence(tmp_path):
    write_claims(Report(tmp_path), [CLAIM])
    assert read_claims(tmp_path) == [CLAIM]
    assert summarise(tmp_path) == "it turns: confirmed (0.7)"
    assert pd.read_parquet(tmp_path / "tables" / "claims.parquet").verdict.tolist() == ["confirmed"]


def test_a_failed_identity_establishes_nothing(tmp_path):
    write_claims(Report(tmp_path), [CLAIM, CLAIM], failed=["rows add to 0.9"])
    assert summarise(tmp_path) == "not established: rows add to 0.9"
    assert {c.verdict for c in read_claims(tmp_path)} == {"not established: rows add to 0.9"}
