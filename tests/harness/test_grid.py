"""Axes and cells: Hydra's grammar for the values, and what cannot be an axis."""

import itertools

import pytest

from harness.axis_names import short_names, task_in_cell, value_text, values_in_words
from harness.compose import compose_config
from harness.errors import ConfigError
from harness.grid import REASONS, compose_cells, read_axis

SETTINGS = {"methods": ["alp", "kd"], "tasks": ["rte"], "baseline": "kd"}


def cells(*texts: str, overrides: tuple[str, ...] = ("preset=demo",)):
    return compose_cells([read_axis(text) for text in texts], overrides, SETTINGS, {})


def refused(*texts: str, overrides: tuple[str, ...] = ("preset=demo",)) -> str:
    with pytest.raises(ConfigError) as caught:
        cells(*texts, overrides=overrides)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("--vary")
    return message


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("student.layers=6,4,2", ("6", "4", "2")),
        ("student.init=first,skip,random", ("first", "skip", "random")),
        ("search.space.temperature=[1,4],[2]", ("[1,4]", "[2]")),
        ("training.epochs=range(1,4)", ("1", "2", "3")),
        ("training.epochs=choice(3,10)", ("3", "10")),
        ("teacher.pretrained='a,b',c", ("'a,b'", "c")),
    ],
)
def test_values_are_a_choice_sweep_of_hydra(text: str, texts: tuple[str, ...]) -> None:
    assert read_axis(text).texts == texts


def test_cells_are_all_combinations_and_each_is_the_command_with_its_values() -> None:
    found = cells("student.layers=3,2", "search.space.temperature=[1,4],[2]")
    values = list(itertools.product((3, 2), ([1, 4], [2])))
    assert [tuple(cell.values.values()) for cell in found] == values
    for cell, (layers, temperature) in zip(found, values, strict=True):
        words = [f"student.layers={layers}", f"search.space.temperature={temperature}"]
        assert cell.config == compose_config(["preset=demo", *words], SETTINGS)
    assert [cell.name for cell in found][:2] == [
        "layers=3, temperature=[1,4]",
        "layers=3, temperature=[2]",
    ]


def test_a_list_of_numbers_and_names_may_be_an_axis() -> None:
    assert [cell.config.pooling for cell in cells("pooling=cls,mean")] == ["cls", "mean"]
    rates = cells("search.learning_rate=[1e-5,1e-4],[1e-4,1e-3]")
    assert [cell.config.search.learning_rate[0] for cell in rates] == [1e-5, 1e-4]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("student.layers=6", "at least two values"),
        ("student.layers=4,4", "two of the values are equal"),
        ("student.layers=0,2", "student.layers=0: student.layers: input should be greater"),
        ("student.layers=a,b", "valid integer"),
        ("training.epochs=1,,2", "extraneous"),
        ("student.layers=interval(1,2)", "list the values"),
        ("student.layers=shuffle(1,2)", "list the values"),
        ("+student.layers=1,2", "write it as KEY=V1,V2"),
        ("=1,2", "write it as KEY=V1,V2"),
        ("student.layers", "missing"),
        ("student.depth=1,2", "unknown key 'student.depth'"),
        ("student={layers:1},{layers:2}", "holds several keys"),
        ("search.space={temperature:[1]},{temperature:[2]}", "holds several keys"),
        ("search.rungs=[1],[2]", "needs protocol.unit=settings"),
    ],
)
def test_values_that_make_no_axis_are_refused_in_one_line(text: str, expected: str) -> None:
    assert expected in refused(text)


@pytest.mark.parametrize(
    "key",
    [
        *("preset", "cluster", "cluster.kind", "methods", "tasks", "task_files", "baseline"),
        *(
            "source.folder",
            "transfer.file",
            "transfer.ratio",
            "out",
            "storage",
            "keep",
            "device",
            "threads",
        ),
        *("protocol", "protocol.seeds", "protocol.alpha", "search.trials", "search.seeds"),
        *("teacher.checkpoint", "teacher.labels.rte", "teacher.seed", "teacher.allow_weak"),
    ],
)
def test_paths_devices_threads_seeds_and_the_protocol_are_no_axes(key: str) -> None:
    assert "cannot be an axis: " in refused(f"{key}=a,b")


def test_the_reasons_name_keys_of_the_configuration() -> None:
    config = compose_config(["preset=demo"], SETTINGS)
    for key in REASONS:
        node: object = config
        for part in key.split("."):
            assert hasattr(node, part), key
            node = getattr(node, part)


@pytest.mark.parametrize(
    ("texts", "overrides", "expected"),
    [
        (("student.layers=3,2",), ("student.layers=4",), "has a value of its own"),
        (("student.layers=3,2", "student.layers=2,1"), (), "is given twice"),
        (("student.layers=3,2",), ("protocol.repeats=2",), "--repeat-search"),
        (("teacher.epochs=1,2",), ("teacher.checkpoint=folder",), "from outside"),
    ],
)
def test_axes_that_contradict_the_command_are_refused(
    texts: tuple[str, ...], overrides: tuple[str, ...], expected: str
) -> None:
    assert expected in refused(*texts, overrides=("preset=demo", *overrides))


def test_names_are_short_where_that_is_unambiguous() -> None:
    assert short_names(["student.layers", "training.epochs"]) == ["layers", "epochs"]
    assert short_names(["teacher.epochs", "training.epochs"]) == [
        "teacher.epochs",
        "training.epochs",
    ]
    assert values_in_words({"a.x": "first", "a.y": [1.5, True]}) == "x=first, y=[1.5,true]"
    assert value_text(None) == "null"
    assert (task_in_cell("rte", "x=1"), task_in_cell("rte", "")) == ("rte (x=1)", "rte")
