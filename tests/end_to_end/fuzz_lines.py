"""Command lines, half right and half wrong: overrides of a plan, and the words of every other verb."""

from __future__ import annotations

import functools
import random
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.config.odd_values import ODD_VALUES
from tests.end_to_end.material import LONG, MINARI
from tests.fast import FAST

# --- overrides -----------------------------------------------------------------------------------------


@functools.cache
def _fields() -> tuple[str, ...]:
    from omegaconf import OmegaConf

    from dtx.config.compose import CONF, compose

    found: set[str] = set()
    for preset in sorted(p.stem for p in CONF.glob("experiment/*.yaml")):
        config = compose([f"experiment={preset}"])
        found |= set(_places(OmegaConf.to_container(config, resolve=False)))
    return tuple(sorted(found))


def _places(node: Any, prefix: str = "") -> Iterator[str]:
    for name, value in node.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _places(value, f"{prefix}{name}.")


@functools.cache
def _options() -> tuple[str, ...]:
    from dtx.config.compose import CONF

    return tuple(sorted(f"{p.parent.name}={p.stem}" for p in CONF.glob("*/*.yaml")))


def override(chance: random.Random) -> str:
    """One override, right or wrong."""
    kind = chance.randrange(8)
    name = chance.choice(_fields())
    if kind == 0:
        return chance.choice(_options())
    if kind == 1:
        group = chance.choice(_options()).partition("=")[0]
        return f"{group}={chance.choice(ODD_VALUES)}"
    if kind == 2:
        at = chance.randrange(len(name))
        name = name[:at] + chance.choice(string.ascii_lowercase + "._[]=") + name[at + 1 :]
    if kind == 3:
        name += "." + chance.choice(["x", "_target_", "_base_", "0", "", "a b", "*"])
    if kind == 4:
        return f"{name}=${{{chance.choice(_fields())}}}"
    value = chance.choice(ODD_VALUES) if chance.random() < 0.7 else _number(chance)
    return f"{chance.choice(['', '', '', '', '+', '++', '~'])}{name}={value}"


def _number(chance: random.Random) -> str:
    sign, size = chance.choice(["", "-"]), 10 ** chance.uniform(-20, 25)
    return sign + (f"{size:.0f}" if chance.random() < 0.5 else f"{size:.6g}")


def overridden(chance: random.Random, here: Path) -> tuple[str, list[str]]:
    """``dtx plan`` with one to three overrides."""
    given = [override(chance) for _ in range(chance.choice([1, 1, 2, 3]))]
    given = [g for g in given if not g.startswith("-")]
    return "overrides", ["plan", *given]


# --- the words of other verbs -----------------------------------------------------------------------------

_ODD_FOLDERS = [
    *("", ".", "..", "~", "~nobody/x", "-", "--", " ", "a b", "a=b", "run[1]", "q?x", "h#x"),
    *("50%25 off", "ü/é", "\n", "new/deep/er", "/dev/null", "/dev/null/x", "/proc/self/fd"),
    *(
        "x" * 300,
        "a/" * 200,
        "$HOME",
        "${seed}",
        "*",
        "**/",
        "../../..",
        "C:\\x",
        "file:///etc",
        "s3://",
    ),
    *("\x1b[31m", "'", '"', "é" * 200),
]


def _place(chance: random.Random, here: Path) -> str:
    """A path: of what is there, of a file, or odd."""
    if chance.random() < 0.6:
        there = [str(p.relative_to(here)) for p in sorted(here.rglob("*"))]
        return chance.choice(there)
    return chance.choice(_ODD_FOLDERS)


def _label(chance: random.Random, here: Path) -> str:
    """The beginning of an artefact's name, or something odd."""
    if chance.random() < 0.5:
        names = sorted(p.name for p in (here / "store").iterdir())
        name = chance.choice(names)
        return name[: chance.choice([len(name), len(name), len(name) - 4, 3])]
    return chance.choice([*_ODD_FOLDERS, "ppo", "rollouts", "decision_transformer", "0", "*-*"])


def _run(chance: random.Random, here: Path) -> list[str]:
    """Everything is there already, unless an override changes it; then training is short."""
    wrong = [override(chance) for _ in range(chance.choice([0, 1, 1]))]
    flags = chance.choice(
        [
            [],
            ["--cfg", chance.choice(["job", "hydra", "all", "x", ""])],
            ["--info", chance.choice(["all", "config", "plugins", "x"])],
            ["--cfg", "job", "--package", chance.choice(["dt", "x.y", "", "_global_"])],
            ["--cfg", "job", "--resolve"],
            [
                "-m",
                "target=dt",
                chance.choice(["dt.seed=0,1", "dt.seed=range(0)", "name=a,b", "seed=choice()"]),
            ],
        ]
    )
    if wrong and not any(f.startswith("--") for f in flags):
        flags = [*flags, "--cfg", "job"]  # an override that is right would train for hours
    return ["run", *FAST, *wrong, *flags]


def _store(chance: random.Random, here: Path) -> list[str]:
    return chance.choice([[], [], ["--store", _place(chance, here)], ["--store", "store"]])


def _configs(chance: random.Random, here: Path) -> list[str]:
    return chance.choice([[], [], ["--config-dir", _place(chance, here)], ["--config-dir", "conf"]])


VERBS: dict[str, Callable[[random.Random, Path], list[str]]] = {
    "run": _run,
    "plan": lambda c, h: [*FAST, *_configs(c, h), f"store.path={_place(c, h)}"],
    "plan -m": lambda c, h: ["-m", *FAST, override(c), override(c)],
    "ls": lambda c, h: [c.choice(["", "agent", "dt", "x", *_ODD_FOLDERS]), *_configs(c, h)],
    "status": lambda c, h: [*_store(c, h), *c.choice([[], ["--all"]])],
    "gc": lambda c, h: [
        *_store(c, h),
        *c.choice([[], ["--delete"], ["--forget", c.choice(["study", "x", *_ODD_FOLDERS])]]),
        *c.choice([[], ["--older", c.choice(["0", "-1", "x", "1e9", "nan", "inf", "1e400"])]]),
        *c.choice([[], ["--keep", _label(c, h), _label(c, h)]]),
        *_configs(c, h),
    ],
    "invalidate": lambda c, h: [_label(c, h), *_store(c, h)],
    "export": lambda c, h: [
        _label(c, h),
        *c.choice([[], [_place(c, h)], ["new"]]),
        *_store(c, h),
        *c.choice([[], ["--as", c.choice([MINARI, "a/b-v0", "x", "a/../../b-v0", *_ODD_FOLDERS])]]),
        *c.choice([[], ["--licence", c.choice(["mit", "x", "é", ""])]]),
        *c.choice([[], ["--author", c.choice(["me", "\x1b[31m", ""])]]),
    ],
    "import": lambda c, h: [
        _place(c, h) if c.random() < 0.6 else c.choice(["handed", "teacher.zip", "conf"]),
        *c.choice([[], ["--as", c.choice(["theirs", "a/b", *_ODD_FOLDERS])]]),
        *c.choice([[], ["--force"], ["--unsafe-pickle"]]),
        *_configs(c, h),
        *c.choice([[], ["env=minigrid", "env.id=MiniGrid-Empty-5x5-v0"], [override(c)]]),
    ],
    "cp": lambda c, h: [
        c.choice(
            ["agent/ppo", "dt/small", "x", "agent/", "/", "agent/ppo/x", *_options(), *_ODD_FOLDERS]
        ),
        _place(c, h),
        *c.choice([[], ["--as", c.choice(["mine", *_ODD_FOLDERS])]]),
        *c.choice([[], ["--force"]]),
        *_configs(c, h),
    ],
    "redraw": lambda c, h: [
        *c.choice(
            [[], ["calibration"], ["x"], ["calibration", "demonstrations"], ["-m", "dt.seed=0,1"]]
        ),
        *FAST,
        *c.choice([[], [override(c)]]),
    ],
    "compare": lambda c, h: [
        *c.choice([[], ["-m", *FAST, "target=dt", "dt.seed=0,1"], [override(c)]]),
        *c.choice([[], ["--metric", c.choice(["dt/loss", "*", "x", "[", "", *_ODD_FOLDERS])]]),
        *c.choice([[], ["--by", c.choice(["dt.seed", "x", ""])]]),
        *c.choice([[], ["--out", _place(c, h)]]),
    ],
    "reproduce": lambda c, h: [
        c.choice(["x", "", "../x", *_ODD_FOLDERS]),
        *c.choice([[], ["--expected", _place(c, h)]]),
        *_configs(c, h),
    ],
    "ui": lambda c, h: [
        *("--port", c.choice(["-1", "x", "99999999", "1.5", "65536", ""])),
        *c.choice(
            [[], ["--uri", c.choice(["sqlite:///x/y/z.db", "x://y", "http://[", *_ODD_FOLDERS])]]
        ),
    ],
    "app": lambda c, h: [
        *("--port", c.choice(["-1", "x", "99999999", "1.5", "65536", ""])),
        *c.choice([[], ["--scene", c.choice(["#1&m=x", "#1&e=:::", "%", "", *_ODD_FOLDERS])]]),
        *c.choice([[], ["--pair", c.choice(["x", "x#1", "#", "declared-0#9", *_ODD_FOLDERS])]]),
        *c.choice([[], ["--panels", _place(c, h)], ["--sae", _place(c, h)]]),
        *_store(c, h),
    ],
    "completion": lambda c, h: [c.choice(["bash", "zsh", "fish", "x", ""])],
    "": lambda c, h: [c.choice(["", "-h", "--version", "x", "run ", "--", "-", "éé", "\x1b"])],
    "track": lambda c, h: [*_store(c, h), *c.choice([[], ["--uri", c.choice(_ODD_FOLDERS)]])],
}
"""Words after each verb."""


def of_a_verb(chance: random.Random, here: Path) -> tuple[str, list[str]]:
    """Any verb with words right and wrong, some twice, some missing, in a folder that may be odd itself."""
    verb = chance.choice(list(VERBS))
    words = [*verb.split(), *VERBS[verb](chance, here)]
    if verb == "run":
        words = words[1:]
    if len(words) > 1 and chance.random() < 0.15:
        del words[chance.randrange(1, len(words))]
    if chance.random() < 0.1:
        words.append(chance.choice([*words, "--nothing", "-x", *_ODD_FOLDERS]))
    if words and words[0] in ("ui", "app") and "--port" not in words:
        words += ["--port", "-1"]  # else it would serve for ever
    done = _harmed(chance, here)
    return done, words


def _harmed(chance: random.Random, here: Path) -> str:
    """Sometimes the folder is not as it should be."""
    kind = chance.randrange(12)
    if kind == 0:
        (here / "mlflow.db").write_bytes(b"garbage" * 100)
        return "a garbage database"
    if kind == 1:
        (here / "mlflow.db").unlink()
        return "no database"
    if kind == 2:
        (here / "conf" / "config.yaml").write_text("\ta: [")
        return "a conf/config.yaml"
    if kind == 3:
        (here / "conf" / "agent" / "mine.yaml").write_text(
            chance.choice(["", "a: b: c", "- 1", "\x00"])
        )
        return "a damaged config"
    return "as it was"


def interrupted() -> list[str]:
    """The command that goes on with the interrupted training."""
    return ["run", *FAST, *LONG]
