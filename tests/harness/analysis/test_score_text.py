"""The score of a verdict table, in the terminal and in notebooks."""

import pytest

from harness.analysis.results import MethodResult


@pytest.mark.parametrize(
    ("scores", "text"),
    [((), "none finished"), ((0.8456,), "84.6"), ((0.8, 0.9), "85.0 ± 7.1")],
)
def test_one_seed_has_no_deviation(scores: tuple[float, ...], text: str) -> None:
    result = MethodResult(
        task="rte",
        method="kd",
        study="s",
        metric="accuracy",
        search=(),
        report=(),
        best_trial=None,
        setting={},
        seeds=tuple(range(len(scores))),
        scores=scores,
        metrics={},
        failures=(),
        failed_seeds=frozenset(),
    )
    assert result.score_text == text
