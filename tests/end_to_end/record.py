"""What a run of fuzz.py or chaos_verbs.py counted, in the file to which docs/concepts/faults.md is held."""

from __future__ import annotations

import datetime
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.end_to_end.material import ROOT


def write(path: Path, counts: Mapping[str, Any]) -> None:
    """Write counts with the date and the commit that they are of."""
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    commit = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    about = {"date": datetime.date.today().isoformat(), "commit": commit}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**about, **counts}, indent=1) + "\n")
