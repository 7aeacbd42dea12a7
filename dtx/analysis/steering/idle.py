"""Settings of steering by which nothing would be edited, or held out: told before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dtx.analysis.core.parts import Parts, Problem, no_actions
from dtx.analysis.steering.spec import Goal, Site, SteeringMethod, SteeringSpec
from dtx.env.decision import Decision
from dtx.text import suggest


def idle(spec: SteeringSpec) -> Iterator[Problem]:
    """Yield (field, why it changes nothing) whatever the model is."""
    known = _cells()
    for name, wanted in spec.arithmetic.items():
        for cell in wanted.cells:
            if cell not in known:
                yield f"arithmetic.{name}.cells", _no_cell(cell)
        if not wanted.reward_to_go and not any(wanted.cells.values()):
            yield f"arithmetic.{name}", "adds nothing: reward_to_go and all cells are 0"
    for name, goal in spec.goals.items():
        if goal.only_if is not None and goal.only_if not in known:
            yield f"goals.{name}.only_if", _no_cell(goal.only_if)
    if spec.descent.learning_rate <= 0:
        yield "descent.learning_rate", "must be above 0, or the vector stays 0"
    for method, field, there in (
        (SteeringMethod.activation_addition, "sites", spec.sites),
        (SteeringMethod.optimised, "descent.sites", spec.descent.sites),
        (SteeringMethod.embedding_arithmetic, "arithmetic", spec.arithmetic),
    ):
        if method in spec.methods and not there:
            yield field, f"is empty, so that {method.value} edits nothing; leave out the method"


def beyond(spec: SteeringSpec, sizes: Parts) -> Iterator[Problem]:
    """Yield (field, what the model does not have of it).

    Sites of layers that a model does not have are left out, so that one config serves several models; a
    method of which none is left would edit nothing.
    """
    for method, field, sites in (
        (SteeringMethod.activation_addition, "sites", spec.sites),
        (SteeringMethod.optimised, "descent.sites", spec.descent.sites),
    ):
        if method in spec.methods and sites and not _there(sites, sizes):
            yield (
                field,
                f"the model has layers 0 to {sizes.n_layers - 1}, none of these; name one, or leave out "
                f"{method.value}",
            )
    for name, goal in spec.goals.items():
        yield from no_actions(sizes, f"goals.{name}.action", [goal.action] if goal.action else [])


def not_held_out(spec: SteeringSpec, decision: Decision | None) -> Iterator[Problem]:
    """Yield (field, what of it no window of any goal has)."""
    held, places = spec.held_out, [p for goal in spec.goals.values() for p in _places(goal)]
    if decision is None or not places:
        return
    for layout in held.layouts:
        if layout not in decision.layouts:
            yield "held_out.layouts", f"no layout {layout!r}{suggest(layout, decision.layouts)}"
    asked = {value for place in places for value in place.reward_to_go}
    for value in held.reward_to_go:
        if value not in asked:
            known = ", ".join(f"{one:g}" for one in sorted(asked))
            yield (
                "held_out.reward_to_go",
                f"no goal asks for {value:g}, so that this holds nothing out; goals ask for {known}",
            )


def _places(goal: Goal) -> list:
    return [*goal.change, *goal.keep]


def _there(sites: Sequence[Site], sizes: Parts) -> bool:
    return any(site.layer < sizes.n_layers for site in sites)


def _cells() -> list[str]:
    from dtx.analysis.core.channels import cell_names

    return cell_names()


def _no_cell(cell: str) -> str:
    return f'{cell!r} is no cell; cells are like "key (2,6)": object (column,row)'
