"""From patching effects to verdicts: does an edit of the world move through the tokens as the study saw it?

Source of the claims: the MemoryDT study, activation patching on states and on reward-to-go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from dtx.analysis.core.claims import Claim, verdict

MOST = 0.5
"""Share of the difference that must be brought for a place to "carry" it."""
WHOLE = 0.01
"""How far from 1 the rho of a set of tokens may be that holds all that was edited."""


@dataclass(frozen=True)
class Strongest:
    """Where most of an edit lies before the last layer's end, and what a shuffled donor brings there.

    ``rho`` and ``control`` are means over all targets: a patch may bring much at one reward-to-go and little
    at another. ``control`` is None where no donor was measured.
    """

    name: str
    token: str
    rho: float
    control: float | None

    @property
    def established(self) -> bool:
        """Whether it is more than the donor brings."""
        return self.control is None or self.rho > self.control


def strongest(effects: pd.DataFrame, edit: str) -> Strongest | None:
    """The component at a token that brings most; None where the runs differ by less than the gap."""
    mine = effects[(effects["edit"] == edit) & effects["rho"].notna()]
    inner = mine[mine["node"] != "resid_post"]
    parts = inner[~inner["node"].str.startswith("resid")]
    if "edit" in set(parts["kind"]):
        inner = parts
    over = {
        kind: inner[inner["kind"] == kind].groupby(["name", "token"], sort=False)["rho"].mean()
        for kind in ("edit", "shuffled_donor")
    }
    if not len(over["edit"]):
        return None
    at = over["edit"].index.to_list()[int(over["edit"].to_numpy().argmax())]
    donors = over["shuffled_donor"].to_dict()
    return Strongest(*at, float(over["edit"].max()), donors.get(at))


def claims(tables: Mapping[str, pd.DataFrame]) -> list[Claim]:
    """One claim for each edit whose runs differ enough.

    An edit of the world (patching all state tokens brings it): from its own token to the last state.
    An edit of reward-to-go (patching all its tokens brings it): collected by an MLP at the last state.

    Args:
        tables: ``effects`` and ``sets`` of the sweep.
    """
    effects, sets = tables["effects"], tables["sets"]
    found = []
    for edit in effects["edit"].drop_duplicates():
        mine = effects[(effects["edit"] == edit) & effects["rho"].notna()]
        mine = mine[mine["reward_to_go"] == mine["reward_to_go"].max()]
        own, donor = (mine[mine["kind"] == kind] for kind in ("edit", "shuffled_donor"))
        if not len(own):
            continue
        kind = edited_kind(sets, edit)
        if kind == "S" and "resid_pre" in set(own["node"]):
            found.append(_moves(edit, own, donor))
        elif kind == "R" and "mlp_out" in set(own["node"]):
            found.append(_collected(edit, own, donor))
    return found


def edited_kind(sets: pd.DataFrame, edit: str) -> str:
    """S, R or A: the kind of token whose embeddings, patched together, bring an edit; "" for none alone."""
    mine = sets[(sets["edit"] == edit) & (sets["kind"] == "edit")]
    brought: dict = mine.groupby("set")["rho"].mean().to_dict()
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
        claim=f"{edit} moves from the edited token to the last state",
        wanted=f"patching the stream brings over {MOST} at the edited token before the first layer, "
        "at the last state before the last layer, and never at a third token",
        found=f"{first} / {last} before each layer and at the end: {path}; a third token at most {other:.2f}"
        + ("" if control is None else f"; shuffled donor at {last} {control:.2f}"),
        verdict=verdict(moved and ahead and other <= MOST, partly=moved and ahead),
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
        claim=f"{edit} is collected by an MLP",
        wanted=f"one MLP's output at the last state brings over {MOST} (less, but more than any attention "
        "output there: depends)",
        found=f"{best['name']} at {best.token} {best.rho:.2f} [{best.low:.2f}, {best.high:.2f}], attention "
        f"outputs there at most {attention:.2f}{single}"
        + ("" if control is None else f"; shuffled donor there {control:.2f}"),
        verdict=verdict(best.rho > MOST and ahead, partly=best.rho > attention and ahead),
    )


def _control(donor: pd.DataFrame, node: str, layer: int, token: str) -> float | None:
    """What the shuffled donor brings at the same place; None where it was not measured."""
    there = donor[(donor["node"] == node) & (donor["layer"] == layer) & (donor["token"] == token)]
    return float(there["rho"].iloc[0]) if len(there) else None
