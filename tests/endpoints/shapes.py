"""JSON of any shape, as a strange server might send it."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

HALF = "half of a pair: \ud83d"
"""A lone surrogate: JSON can write it, UTF-8 cannot."""
any_text = st.just(HALF) | st.text(alphabet=st.characters(codec=None, categories=None), max_size=20)
"""Text of any characters."""
clean_text = st.text(max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | any_text
any_json = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=15,
)
clean_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | clean_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(clean_text, inner, max_size=4),
    max_leaves=15,
)
"""JSON that can be written."""


def mapping_of(**known: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping in which each known name may be missing, as it should be, or anything."""
    return st.fixed_dictionaries({}, optional={name: value | any_json for name, value in known.items()})
