"""Composition and validation of the configuration."""

from collections.abc import Sequence
from dataclasses import FrozenInstanceError

import pytest

from harness.compose import compose_config, names, read_yaml
from harness.config import START_UP, Sampler, SearchConfig, StudyConfig, json_values, validate
from harness.errors import ConfigError

ASKED = ["methods=[alp]", "tasks=[rte]"]


def composed(*overrides: str) -> StudyConfig:
    return compose_config([*ASKED, *overrides])


def message(overrides: Sequence[str]) -> str:
    with pytest.raises(ConfigError) as caught:
        composed(*overrides)
    return str(caught.value)


@pytest.mark.parametrize("preset", names("preset"))
@pytest.mark.parametrize("protocol", names("protocol"))
def test_every_preset_and_protocol_composes(preset: str, protocol: str) -> None:
    config = composed(f"preset={preset}", f"protocol={protocol}")
    assert config.preset == preset
    assert config.protocol.name == protocol
    written = read_yaml("preset", preset)
    assert written["teacher"]["epochs"] == config.teacher.epochs
    assert tuple(written["search"]["learning_rate"]) == config.search.learning_rate


def test_the_paper_preset_is_the_published_form() -> None:
    config = composed("preset=paper")
    assert (config.student.init, config.student.origin) == ("first", "pretrained")
    assert (config.search.weights, config.training.batch_size) == ("simplex", 32)
    assert config.teacher.pretrained == "bert-base-uncased"


def test_without_a_preset_it_is_the_demo_under_the_clean_protocol() -> None:
    config = composed()
    assert (config.preset, config.protocol.name, config.source.kind) == ("demo", "clean", "demo")


def test_overrides_win_over_the_preset_wherever_they_stand() -> None:
    before = compose_config(["training.epochs=9", "preset=paper", *ASKED])
    after = compose_config([*ASKED, "preset=paper", "training.epochs=9"])
    assert before.training.epochs == after.training.epochs == 9
    assert before == after
    last = composed("training.epochs=3", "training.epochs=4")
    assert last.training.epochs == 4


def test_values_that_no_yaml_names_can_be_overridden() -> None:
    config = composed("training.clip_norm=0.5", "teacher.seed=3", "search.space.temperature=[2,4]")
    assert (config.training.clip_norm, config.teacher.seed) == (0.5, 3)
    assert config.search.space == {"temperature": (2, 4)}


def test_all_faults_are_reported_together() -> None:
    found = message(
        [
            "training.epohcs=3",
            "colour=red",
            "training.batch_size=many",
            "student.layers=0",
            "training.warmup=1.5",
            "student.init=last",
            "protocol.alpha=0.5",
        ]
    )
    for expected in (
        "unknown key 'training.epohcs'",
        "unknown key 'colour'",
        "training.batch_size:",
        "(got 'many')",
        "student.layers:",
        "(got 0)",
        "training.warmup:",
        "(got 1.5)",
        "student.init:",
        "(got 'last')",
        "protocol.alpha:",
    ):
        assert expected in found
    assert "\n" not in found
    assert found.count("; ") == 6


@pytest.mark.parametrize(
    ("override", "place"),
    [
        ("search.trials=0", "search.trials"),
        ("search.trials=2.5", "search.trials"),
        ("search.trials=null", "search.trials"),
        ("search.trials=[1]", "search.trials"),
        ("search.trials=true", "search.trials"),
        ("training.clip_norm=true", "training.clip_norm"),
        ("training.max_length=4", "training.max_length"),
        ("training.max_length=1024", "training.max_length"),
        ("training.clip_norm=0", "training.clip_norm"),
        ("training.weight_decay=-1", "training.weight_decay"),
        ("teacher.learning_rate=nan", "teacher.learning_rate"),
        ("search.learning_rate=[0,1e-3]", "search.learning_rate"),
        ("search.learning_rate=[1e-3,1e-4]", "search.learning_rate"),
        ("search.learning_rate=[1e-3]", "search.learning_rate"),
        ("search.space.temperature=[]", "search.space.temperature"),
        ("search.space.temperature=2", "search.space.temperature"),
        ("search.weights=free", "search.weights"),
        ("protocol.fraction=1", "protocol.fraction"),
        ("protocol.least=200", "protocol.least=200 has no effect: the demo has a selection split"),
        ("protocol.most=200", "protocol.most=200 has no effect"),
        ("protocol.fraction=0.2", "protocol.fraction=0.2 has no effect"),
        ("methods=[]", "methods"),
        ("tasks=[]", "tasks"),
        ("source.kind=folder", "source.folder"),
        ("source.folder=here", "source.folder"),
        ("keep=all", "keep"),
        ("device=tpu", "device"),
        ("training=fast", "training"),
    ],
)
def test_a_bad_value_is_named(override: str, place: str) -> None:
    assert place in message([override])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("preset=papr", "preset=papr: choose from demo, minilm, paper"),
        ("protocol=dirty", "protocol=dirty: choose from clean, paper"),
        ("search.trials=1,2", "write it as key=value"),
        ("+search.trials=3", "write it as key=value"),
        ("~search", "write it as key=value"),
        ("=3", "write it as key=value"),
        ("training.epochs=[1", "override 'training.epochs=[1': "),
        ("training.epochs=1 2=", "override 'training.epochs=1 2=': "),
        ("out=${nowhere}", "nowhere"),
    ],
)
def test_an_override_that_cannot_be_used_is_named(override: str, words: str) -> None:
    found = message([override])
    assert words in found
    assert "\n" not in found


def test_missing_methods_and_tasks_are_named() -> None:
    with pytest.raises(ConfigError, match=r"methods.*tasks"):
        compose_config([])


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        composed().training.epochs = 5  # type: ignore[misc]


@pytest.mark.parametrize("preset", names("preset"))
def test_plain_values_validate_to_the_same_configuration(preset: str) -> None:
    config = composed(
        f"preset={preset}", "search.space.scaled=[false]", "search.space.kd_weight=[0.5]"
    )
    again = validate(json_values(config))
    assert again == config
    assert again.search.space["scaled"] == (False,)
    assert again.search.space["scaled"][0] is False


@pytest.mark.parametrize(
    ("sampler", "trials", "random"), [("tpe", 2, 2), ("tpe", 9, START_UP), ("random", 9, 9)]
)
def test_the_trials_drawn_at_random_depend_on_the_sampler(
    sampler: Sampler, trials: int, random: int
) -> None:
    search = SearchConfig(sampler=sampler, trials=trials)
    assert search.random_trials == random


def test_choices_keep_their_types() -> None:
    space = composed(
        "search.space.scaled=[true,false]",
        "search.space.temperature=[1,2.5]",
        "search.space.value=[raw]",
    ).search.space
    kinds = {name: [type(choice) for choice in choices] for name, choices in space.items()}
    assert kinds == {"scaled": [bool, bool], "temperature": [int, float], "value": [str]}
