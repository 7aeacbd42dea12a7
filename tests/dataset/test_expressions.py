import numpy as np
import pytest

from dtx.dataset.expressions import Expression
from dtx.errors import UserError

X, Y = np.array([0, 1, 2, 3]), np.array([3, -1, 2, 0])
DOOR = np.array(["open", "locked", "open", "closed"])
HELD = np.array([True, False, True, False])
VALUES = {"x": X, "y": Y, "door": DOOR, "held": HELD}

WANTED = {
    "x + 2 * y": X + 2 * Y,
    "-x": -X,
    "x // 2 + x % 2": X // 2 + X % 2,
    "abs(y - x) <= 1": np.abs(Y - X) <= 1,
    "0 < x < 3": (X > 0) & (X < 3),
    "door == 'open' and not held": (DOOR == "open") & ~HELD,
    "door in ('open', 'closed') or held": np.isin(DOOR, ("open", "closed")) | HELD,
    "door not in ['open']": DOOR != "open",
    "'near' if x < 2 else 'far'": np.where(X < 2, "near", "far"),
    "min(x, y, 1)": np.minimum(np.minimum(X, Y), 1),
    "max(x, y)": np.maximum(X, Y),
    "held + 1": HELD.astype(int) + 1,
    "7": np.full(4, 7),
}


@pytest.mark.parametrize("text", WANTED)
def test_values_are_those_of_python(text):
    found = Expression(text).of(VALUES)
    assert (found == WANTED[text]).all()
    rows = [{k: v[i].item() for k, v in VALUES.items()} for i in range(4)]
    assert found.tolist() == [eval(text, {}, row) for row in rows]


def test_names_are_told_once_in_their_order():
    assert Expression("y + x + y").names == ("y", "x")


REFUSED = {
    "__import__('os').system('true')": "holds",
    "x.real": "holds 'x.real'",
    "x[0]": "holds",
    "(lambda: 1)()": "holds",
    "[x for x in (1, 2)]": "holds",
    "f'{x}'": "holds",
    "x ** 99": "holds",
    "x / 2": "holds",
    "open('file')": "holds",
    "(y := 3)": "holds",
    "abs(x, y)": "abs has 2 arguments",
    "min(x)": "min has 1 arguments",
    "abs(x=1)": "holds",
    "None": "holds",
    "x in y": "holds",
    "x is y": "holds",
    "x +": "is no expression",
    "": "is no expression",
    "x = 3": "is no expression",
    "(" * 900: "is no expression",
    "x+" * 600 + "x": "more than 1000 characters",
}


@pytest.mark.parametrize("text", REFUSED)
def test_all_else_is_refused_when_it_is_read(text):
    with pytest.raises(UserError, match=REFUSED[text]) as told:
        Expression(text)
    assert "\n" not in str(told.value)


WRONG = {
    "dor == 'open'": r"names 'dor', which is no fact \(did you mean 'door'\?\)",
    "door < 3": "a text and a number are put together",
    "door + 1": "a text is used as a number",
    "x and held": "want a comparison",
    "not x": "want a comparison",
    "1 if x else 2": "want a comparison",
    "door if held else 1": "a text and a number are put together",
    "x in ('a', 1)": "a text and a number are put together",
    "x // (y - y)": "cannot be computed: divide by zero",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_does_not_go_together_is_told(text):
    with pytest.raises(UserError, match=WRONG[text]) as told:
        Expression(text).of(VALUES)
    assert "\n" not in str(told.value)
