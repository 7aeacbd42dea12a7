"""Check types, strictly where dtx's own classes are concerned: what `make lint` runs.

Attributes of pandas frames and of torch modules are dynamic, so that two of pyright's rules find hundreds of
them. Those rules are on all the same, and count where the message names a class of dtx.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DYNAMIC = ("reportAttributeAccessIssue", "reportCallIssue")
"""Rules that count for dtx's own classes alone."""


def classes() -> set[str]:
    """Names of all classes of dtx."""
    trees = (ast.parse(path.read_bytes()) for path in (ROOT / "dtx").rglob("*.py"))
    return {
        node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    }


def counts(rule: str | None, message: str, own: set[str]) -> bool:
    """Whether an error of pyright's is one here."""
    if rule not in DYNAMIC:
        return True
    named = re.search(r'for class "(?:type\[)?(\w+)', message)
    if named:
        return named[1] in own and not message.startswith('Cannot access attribute "_')
    return rule == "reportCallIssue" and any(f'"{name}"' in message for name in own)


def errors(report: str) -> Iterator[str]:
    """``file:line: message`` of each error that counts, from pyright's JSON."""
    own = classes()
    for found in json.loads(report)["generalDiagnostics"]:
        if counts(found.get("rule"), found["message"], own):
            place = Path(found["file"]).relative_to(ROOT)
            line = found["range"]["start"]["line"] + 1
            yield f"{place}:{line}: {found['message']} ({found.get('rule', found['severity'])})"


def main() -> int:
    """Run pyright with the interpreter that runs this; 1 if something counts."""
    command = ["pyright", "--outputjson", "--pythonpath", sys.executable]
    beside = Path(sys.executable).with_name("pyright")
    command[0] = str(beside) if beside.exists() else "pyright"
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if not done.stdout.startswith("{"):
        print(done.stdout + done.stderr, file=sys.stderr)
        return 2
    lines = list(errors(done.stdout))
    print("\n".join(lines) or "types: no error")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
