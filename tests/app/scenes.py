"""Scenes by hypothesis: all that a scene can be, and anything at all."""

from __future__ import annotations

from hypothesis import strategies as st

from dtx.app.scene import LETTERS, SIDES, OpenPanel, Scene

_words = st.builds(str.__add__, st.sampled_from("abcxyz"), st.text("abc_", max_size=6))
_texts = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=12
).filter(str.isprintable)
_prompts = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(
    [" the", "a-b", "1+1=2", "two\nlines", "100%", "#1&a=f"]
)
"""Of models that read text: anything but halves of characters."""
_numbers = st.one_of(
    st.integers(-1000, 1000),
    st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: x + 0.0),
    st.sampled_from([0.892, -0.5, 1e-7, 1.5e-5, 0.1]),
)
_plain = st.one_of(
    _numbers, st.booleans(), _texts, st.lists(st.integers(0, 1000), min_size=2, max_size=4)
)
_mappings = st.dictionaries(_words, _plain, min_size=1, max_size=3)
_edits = st.builds(
    lambda op, fields: {"op": op} | fields,
    _words,
    st.dictionaries(_words.filter(lambda w: w != "op"), st.one_of(_plain, _mappings), max_size=4),
)
_models = st.builds(
    "{}{:08x}{}".format,
    st.sampled_from(["", "agent:"]),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["", "@1", "@1350"]),
)

scenes = st.builds(
    Scene,
    models=st.lists(_models, max_size=4).map(tuple),
    env=st.sampled_from(["", "memory", "door_key,size=6", "minigrid,id=MiniGrid-Empty-5x5-v0"]),
    world=st.sampled_from(["", "key/left", "ball/right", "seed:17"]),
    actions=st.text(LETTERS, max_size=60),
    reward_to_go=st.none() | _numbers.map(float),
    tokens=st.dictionaries(st.integers(1, 9999), _numbers.map(float), max_size=3),
    edits=st.lists(_edits, max_size=4).map(tuple),
    cursor=st.none() | st.integers(1, 2001),
    contrast=st.none()
    | st.sampled_from([("left", "right"), ("forward", "toggle")])
    | st.lists(_prompts.filter(bool), min_size=2, max_size=2, unique=True).map(tuple),
    panels=st.none()
    | st.lists(
        st.builds(OpenPanel, _words, st.dictionaries(_words, _plain, max_size=3)),
        max_size=5,
        unique_by=lambda panel: panel.name,
    ).map(tuple),
    shown=st.sampled_from(SIDES),
    text=_prompts,
    edited_text=_prompts,
    unknown=st.dictionaries(
        st.sampled_from(["X", "zoom", "v2"]),
        st.text("aZ09_.~%-", max_size=9),
        max_size=2,
    ),
)
anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=12), inner, max_size=5)
    ),
    max_leaves=20,
)
