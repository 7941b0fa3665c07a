from reports.page.configuration import flat_table


def test_flat_table_names_nested_values_with_dots():
    frame = flat_table({"a": {"b": 1, "c": {}}, "d": [1, 2], "e": None})
    assert frame.to_numpy().tolist() == [
        ["a.b", "1"],
        ["a.c", "not set"],
        ["d", "1, 2"],
        ["e", "not set"],
    ]
