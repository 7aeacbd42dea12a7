"""Claims about patching effects: an edit moves through the tokens as the MemoryDT study saw it.

Source of the claims: the MemoryDT study, activation patching on states and on reward-to-go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from dtx.analysis.core.patching import above_control
from dtx.analysis.core.patching_spec import DONOR, EDIT
from dtx.analysis.core.result import About, Claim, Verdict

MOST = 0.5
"""Share of the difference that must be brought for a place to "carry" it."""
WHOLE = 0.01
"""How far from 1 the rho of a set of tokens may be that holds all that was edited."""


@dataclass(frozen=True)
class Strongest:
    """The component that brings most of an edit before the last layer's end, and its control.

    ``rho`` and ``control`` are means over all targets: a patch may bring much at one reward-to-go and little
    at another. ``control``: with activations from an unrelated layout at the same place; None where none was
    measured.
    """

    name: str
    token: str
    rho: float
    control: float | None

    @property
    def established(self) -> bool:
        """Whether it brings more than its control."""
        return self.control is None or self.rho > self.control

    @property
    def place(self) -> str:
        """``L1 mlp_out at S5``."""
        return f"{self.name} at {self.token}"


def strongest(effects: pd.DataFrame, edit: str) -> Strongest | None:
    """The component at a token that brings most; None where the runs differ by less than the gap."""
    of_edit = effects[(effects["edit"] == edit) & effects["rho"].notna()]
    inner = of_edit[of_edit["node"] != "resid_post"]
    parts = inner[~inner["node"].str.startswith("resid")]
    if EDIT in set(parts["kind"]):
        inner = parts
    over, controls = (
        inner[inner["kind"] == kind].groupby(["name", "token"], sort=False)["rho"].mean()
        for kind in (EDIT, DONOR)
    )
    if not len(over):
        return None
    at = over.index.to_list()[int(over.to_numpy().argmax())]
    return Strongest(*at, float(over.max()), controls.to_dict().get(at))


def claims(tables: Mapping[str, pd.DataFrame]) -> list[Claim]:
    """Claims for each edit whose runs differ enough: its strongest patch, and how it moves.

    An edit of the world (patching all state tokens brings it): from its own token to the last state.
    An edit of reward-to-go (patching all its tokens brings it): collected by an MLP at the last state.

    Args:
        tables: ``effects`` and ``sets`` of the sweep.
    """
    effects, sets = tables["effects"], tables["sets"]
    made = []
    for edit in effects["edit"].drop_duplicates():
        best = strongest(effects, edit)
        if best is not None:
            made.append(above_control(edit, best.place, best.rho, best.control))
        rows = effects[(effects["edit"] == edit) & effects["rho"].notna()]
        rows = rows[rows["reward_to_go"] == rows["reward_to_go"].max()]
        own, donor = (rows[rows["kind"] == kind] for kind in (EDIT, DONOR))
        if not len(own):
            continue
        kind = edited_kind(sets, edit)
        if kind == "S" and "resid_pre" in set(own["node"]):
            made.append(_moves(edit, own, donor))
        elif kind == "R" and "mlp_out" in set(own["node"]):
            made.append(_collected(edit, own, donor))
    return made


def edited_kind(sets: pd.DataFrame, edit: str) -> str:
    """S, R or A: the kind of token whose embeddings, patched together, bring an edit; "" for none alone."""
    rows = sets[(sets["edit"] == edit) & (sets["kind"] == EDIT)]
    brought: dict = rows.groupby("set")["rho"].mean().to_dict()
    return next((kind for kind in "SRA" if brought.get(kind, 0.0) > 1 - WHOLE), "")


def _moves(edit: str, own: pd.DataFrame, donor: pd.DataFrame) -> Claim:
    """At the edited token first, at the last state in the end, at no third token in between."""
    last = own.loc[own["position"].idxmax(), "token"]
    stream = own[own["node"] == "resid_pre"]
    end = own[(own["node"] == "resid_post") & (own["layer"] == own["layer"].max())]
    end = end.assign(layer=end["layer"] + 1)
    steps = pd.concat([stream, end] if len(end) else [stream])
    over = steps.pivot_table(index="layer", columns="token", values="rho")
    first = str(over.iloc[0].idxmax())
    between = over.drop(columns=[first, last], errors="ignore")
    other = float(between.to_numpy().max()) if between.size else 0.0
    # In the end everything lies at the last state by construction: it must get there before the last layer.
    inner = over[over.index < own["layer"].max() + 1]
    moved = first != last and over[first].iloc[0] > MOST and inner[last].iloc[-1] > MOST
    control = _control(donor, "resid_pre", int(inner.index[-1]), last)
    ahead = control is None or inner[last].iloc[-1] > control
    path = ", ".join(f"{row[first]:.2f} / {row[last]:.2f}" for _, row in over.iterrows())
    return Claim(
        id=f"{edit}_moves",
        text=f"{edit} moves from the edited token to the last state",
        criterion=f"patching the stream brings over {MOST} at the edited token before the first layer, "
        "at the last state before the last layer, and never at a third token",
        evidence=f"{first} / {last} before each layer and at the end: {path}; a third token at most "
        f"{other:.2f}" + ("" if control is None else f"; unrelated layout at {last} {control:.2f}"),
        verdict=Verdict.of(moved and ahead and other <= MOST, partly=moved and ahead),
    )


def _collected(edit: str, own: pd.DataFrame, donor: pd.DataFrame) -> Claim:
    """An MLP's output at the last state brings most of what all reward-to-go tokens together do."""
    last = own["position"].max()
    here = own[own["position"] == last]
    mlp = here[here["node"] == "mlp_out"]
    best = mlp.loc[mlp["rho"].idxmax()]
    attention = here.loc[here["node"] == "attn_out", "rho"].max()
    asked = own[(own["node"] == "resid_pre") & (own["layer"] == 0)]
    asked = asked[asked["token"].str.startswith("R")]
    control = _control(donor, "mlp_out", int(best.layer), str(best.token))
    ahead = control is None or best.rho > control
    single = "" if asked.empty else f"; a single R token at most {asked['rho'].max():.2f}"
    return Claim(
        id=f"{edit}_collected",
        text=f"{edit} is collected by an MLP",
        criterion=f"one MLP's output at the last state brings over {MOST} (less, but more than any attention "
        "output there: depends)",
        evidence=f"{best['name']} at {best.token} {best.rho:.2f} [{best.low:.2f}, {best.high:.2f}], "
        f"attention outputs there at most {attention:.2f}{single}"
        + ("" if control is None else f"; unrelated layout there {control:.2f}"),
        verdict=Verdict.of(best.rho > MOST and ahead, partly=best.rho > attention and ahead),
        about=About.REWARD_TO_GO,
    )


def _control(donor: pd.DataFrame, node: str, layer: int, token: str) -> float | None:
    """What an unrelated layout's activations bring at the same place; None where it was not measured."""
    there = donor[(donor["node"] == node) & (donor["layer"] == layer) & (donor["token"] == token)]
    return float(there["rho"].iloc[0]) if len(there) else None
