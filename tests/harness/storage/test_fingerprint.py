"""Fingerprints: of canonical JSON."""

import pytest

from harness.storage.fingerprint import canonical, fingerprint


def test_a_fingerprint_ignores_the_order_of_keys_and_nothing_else() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert len({fingerprint(value) for value in ({"a": 1}, {"a": "1"}, {"a": 1.5}, {"b": 1})}) == 4
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical(float("nan"))
