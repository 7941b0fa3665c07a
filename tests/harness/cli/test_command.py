"""The command's advice before it trains."""

import pytest

from harness.cli.command import _warn_of_few_seeds
from harness.compose import compose_config


@pytest.mark.parametrize(
    ("trials", "budget", "words", "least"),
    [(5, 1, "cannot", 6), (6, 1, None, 6), (8, 4, "may not", 9), (9, 4, None, 9)],
)
def test_few_trials_are_said_before_they_are_trained(
    trials: int,
    budget: int,
    words: str | None,
    least: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    overrides = ["protocol.unit=methods", f"protocol.budget={budget}", "search.sampler=random"]
    overrides += [f"search.trials={trials}", "methods=[kd,alp]", "baseline=kd", "tasks=[rte]"]
    _warn_of_few_seeds(compose_config(overrides), cells=1)
    warning = (
        f"warning: {trials} trials {words} reach p < 0.05 in a family of 1 comparison(s); at least "
        f"{least} can\n"
    )
    assert capsys.readouterr().err == (warning if words else "")
