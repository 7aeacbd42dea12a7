"""Facts that are declared as expressions over others: ``near_key: abs(x - key_x) + abs(y - key_y) <= 1``.

An expression is Python's, of names of facts, numbers, texts, ``+ - * // %``, comparisons, ``in (...)``,
``and``, ``or``, ``not``, ``A if B else C``, and ``abs``, ``min``, ``max``. Nothing else is possible: it is
read, not run.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from typing import Any

import numpy as np

from dtx.errors import UserError
from dtx.text import first_line, suggest

_BINARY: dict[type, Callable] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.remainder,
}
_COMPARED: dict[type, Callable] = {
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
}
_FUNCTIONS: dict[str, Callable] = {"abs": np.abs, "min": np.minimum, "max": np.maximum}
LONGEST = 1000
"""Characters that an expression may have."""


class Expression:
    """An expression over facts.

    Args:
        text: Of it.

    Raises:
        UserError: It is no expression, or holds what is not possible; says what.
    """

    def __init__(self, text: str):
        self.text = text
        if len(text) > LONGEST:
            raise UserError(f"an expression of more than {LONGEST} characters")
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise UserError(f"{text!r} is no expression: {first_line(error)}") from None
        self.names = tuple(dict.fromkeys(_names(self._tree, text)))

    def of(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Its value where the facts have these, (n,) each.

        Raises:
            UserError: There is no fact of a name, or values do not go together.
        """
        for name in self.names:
            if name not in values:
                raise UserError(
                    f"{self.text!r} names {name!r}, which is no fact{suggest(name, [*values])}"
                )
        try:
            with np.errstate(divide="raise", over="raise"):
                found = np.asarray(_value(self._tree, values))
        except (TypeError, ValueError, FloatingPointError) as error:
            raise UserError(f"{self.text!r} cannot be computed: {first_line(error)}") from None
        return np.broadcast_to(found, len(next(iter(values.values()))))


def _names(node: ast.AST, text: str) -> Iterator[str]:
    """The facts that an expression names; refuses all that is not possible in one."""
    match node:
        case ast.Name():
            yield node.id
            return
        case ast.Constant() if isinstance(node.value, (bool, int, float, str)):
            return
        case ast.BoolOp():
            inner = list(node.values)
        case ast.BinOp() if type(node.op) in _BINARY:
            inner = [node.left, node.right]
        case ast.UnaryOp() if isinstance(node.op, (ast.Not, ast.USub)):
            inner = [node.operand]
        case ast.Compare() if all(type(op) in _COMPARED for op in node.ops):
            inner = [node.left, *node.comparators]
        case ast.Compare(
            ops=[ast.In() | ast.NotIn()], comparators=[ast.Tuple() | ast.List() as some]
        ):
            inner = [node.left, *some.elts]
        case ast.IfExp():
            inner = [node.test, node.body, node.orelse]
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in _FUNCTIONS:
            wanted = node.args if name != "abs" else node.args[:1]
            if len(node.args) < (1 if name == "abs" else 2) or len(wanted) < len(node.args):
                raise UserError(f"{text!r}: {name} has {len(node.args)} arguments")
            inner = list(node.args)
        case _:
            shown = ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__
            raise UserError(
                f"{text!r} holds {shown!r}; possible are names of facts, numbers, texts, + - * // %, "
                "comparisons, in (...), and, or, not, A if B else C, abs, min, max"
            )
    for part in inner:
        yield from _names(part, text)


def _value(node: ast.AST, values: Mapping[str, np.ndarray]) -> Any:
    def of(part: ast.AST) -> Any:
        return _value(part, values)

    match node:
        case ast.Name():
            return values[node.id]
        case ast.Constant():
            return node.value
        case ast.BoolOp():
            both = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            return reduce(both, [_truth(of(part)) for part in node.values])
        case ast.BinOp():
            return _BINARY[type(node.op)](_number(of(node.left)), _number(of(node.right)))
        case ast.UnaryOp():
            value = of(node.operand)
            return ~_truth(value) if isinstance(node.op, ast.Not) else -_number(value)
        case ast.Compare(
            ops=[ast.In() | ast.NotIn() as op], comparators=[ast.Tuple() | ast.List() as some]
        ):
            left = of(node.left)
            found = reduce(np.logical_or, [_equal(left, of(one)) for one in some.elts], np.False_)
            return found if isinstance(op, ast.In) else ~found
        case ast.Compare():
            parts = [of(part) for part in (node.left, *node.comparators)]
            pairs = zip(parts[:-1], node.ops, parts[1:], strict=True)
            return reduce(np.logical_and, [_compared(a, op, b) for a, op, b in pairs])
        case ast.IfExp():
            yes, no = of(node.body), of(node.orelse)
            _alike(yes, no)
            return np.where(_truth(of(node.test)), yes, no)
        case ast.Call(func=ast.Name(id=name)):
            numbers = [_number(of(part)) for part in node.args]
            return np.abs(numbers[0]) if name == "abs" else reduce(_FUNCTIONS[name], numbers)
    raise AssertionError(f"{node} was let through")


def _compared(a: Any, op: ast.cmpop, b: Any) -> Any:
    _alike(a, b)
    return _COMPARED[type(op)](a, b)


def _equal(a: Any, b: Any) -> Any:
    _alike(a, b)
    return np.equal(a, b)


def _alike(a: Any, b: Any) -> None:
    """Text goes with text alone: a word compared with a number is a mistake, not False."""
    if (np.asarray(a).dtype.kind == "U") != (np.asarray(b).dtype.kind == "U"):
        raise TypeError("a text and a number are put together")


def _number(value: Any) -> np.ndarray:
    found = np.asarray(value)
    if found.dtype.kind == "U":
        raise TypeError("a text is used as a number")
    return found.astype(np.int64) if found.dtype.kind == "b" else found


def _truth(value: Any) -> np.ndarray:
    found = np.asarray(value)
    if found.dtype.kind != "b":
        raise TypeError("and, or, not and if want a comparison on each side")
    return found
