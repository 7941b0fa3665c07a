"""JSON of stored rows is read as Python's own module reads it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.storage.json_values import from_json, parse_json, to_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda parts: st.lists(parts) | st.dictionaries(st.text(), parts),
)


@given(VALUES)
def test_values_come_back_as_they_are(value):
    # Texts tell NaN from NaN, -0.0 from 0.0, and 1 from 1.0 and True.
    assert repr(parse_json(json.dumps(value))) == repr(value)
    assert repr(parse_json(json.dumps(value).encode())) == repr(value)
    assert repr(from_json(to_json(value))) == repr(value)


@pytest.mark.parametrize(
    "text",
    ["NaN", "[-Infinity]", "1e400", '"\\ud800"', str(2**70), "-0.0", '{"a": 1, "a": 2}', "1E5"],
)
def test_what_the_fast_reader_refuses_is_read_too(text):
    assert repr(parse_json(text)) == repr(json.loads(text))


@pytest.mark.parametrize("text", ["", "[1,", "{'a': 1}", "tru", "1 2", '"\x01"', "{1: 2}"])
def test_damaged_texts_are_value_errors(text):
    with pytest.raises(json.JSONDecodeError) as reason:
        json.loads(text)
    with pytest.raises(json.JSONDecodeError) as found:
        parse_json(text)
    assert str(found.value) == str(reason.value)
