"""The four layouts of Memory, and the indices by which MiniGrid knows what matters in it."""

from __future__ import annotations

LEFT, RIGHT, FORWARD = 0, 1, 2
"""MiniGrid's actions that matter here."""
WALL, KEY, BALL = 2, 5, 6
"""MiniGrid's object indices that matter here."""
LAYOUTS = ("key/left", "key/right", "ball/left", "ball/right")
"""Instruction / side of the matching object; the index of a layout is its place here."""
SIZES = (7, 9, 11, 13)
"""Cells along a side of the worlds that there are."""
