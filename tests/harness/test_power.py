"""The command that plans seeds, against statsmodels, hand-worked cases and the statistics it uses."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from statsmodels.stats.power import TTestPower

from harness.metric_table import METRICS
from harness.power import SEEDS, TRIALS, main
from harness.stats import minimum_seeds
from harness.stats.power import detectable_difference, power_of, seeds_needed
from harness.stats.spread import sd_interval
from harness.stats.tuned_power import (
    detectable_tuned_difference,
    effective_trials,
    spread_of_searches,
    trials_needed,
    tuned_power,
)
from harness.storage.ledger import Ledger
from tests.harness.analysis.test_compare import SEEDS as PAIRS
from tests.harness.analysis.test_compare import compared, spread
from tests.harness.analysis.test_pools import BASELINE, METHOD
from tests.harness.analysis.test_pools import compared as compared_pools
from tests.harness.analysis.test_repeats import joined

ROOT = Path(__file__).parents[2]
BLOCKED = """
import sys

_, blocked, *arguments = sys.argv

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked.split(","):
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocker())
from harness.power import main
sys.exit(main(arguments))
"""
FLAT = dict.fromkeys(PAIRS, 0.5)
STEPS_SD = 0.025 * math.sqrt((29 - 13**2 / 10) / 9)
"""The sd of `spread` less a constant: ten seeds with 0, 1, 2, 3, 0, 1, 2, 3, 0, 1 steps of 0.025."""

Answer = Callable[..., dict[str, Any]]


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str]) -> Answer:
    def ask(*arguments: str) -> dict[str, Any]:
        assert main([*arguments, "--json"]) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        return dict(json.loads(printed.out))

    return ask


def test_an_effect_of_eight_tenths(answer: Answer) -> None:
    """14.30 pairs by the t test, so 15; the sign-flip test needs no more."""
    (plan,) = answer("--sd", "0.0125", "--margin", "0.01")["plans"]
    assert TTestPower().solve_power(0.8, alpha=0.05, power=0.8) == pytest.approx(14.30, abs=0.005)
    assert plan["needed"] == 15
    assert [outlook["seeds"] for outlook in plan["outlooks"]] == list(SEEDS)


@pytest.mark.parametrize("comparisons", [1, 15])
@pytest.mark.parametrize("power", [0.8, 0.9])
def test_many_seeds_are_planned_as_statsmodels_does(
    answer: Answer, comparisons: int, power: float
) -> None:
    sd, margin, level = 0.03, 0.02, 0.05 / comparisons
    flags = ("--sd", "0.03", "--margin", "0.02", "--seeds", "25,40", "--power", str(power))
    (plan,) = answer(*flags, "--comparisons", str(comparisons))["plans"]
    assert [outlook["seeds"] for outlook in plan["outlooks"]] == [25, 40]
    for outlook in plan["outlooks"]:
        n = outlook["seeds"]
        expected = TTestPower().power(margin / sd, n, level)
        assert outlook["power"] == pytest.approx(expected, abs=1e-6)
        effect = TTestPower().solve_power(None, n, level, power)
        assert outlook["detectable"] == pytest.approx(sd * effect, rel=1e-3)
    needed = TTestPower().solve_power(margin / sd, alpha=level, power=power)
    if needed > 20:
        assert plan["needed"] == math.ceil(needed)


def test_the_numbers_are_the_statistics_own(answer: Answer) -> None:
    flags = ("--sd", "0.012", "--sd-seeds", "8", "--metric", "matthews", "--seeds", "12,5,9")
    found = answer(*flags, "--comparisons", "3", "--alpha", "0.1", "--power", "0.7")
    (plan,) = found["plans"]
    level, margin = 0.1 / 3, METRICS["matthews"].margin
    assert (found["alpha"], found["comparisons"], found["power"]) == (0.1, 3, 0.7)
    assert plan["spread"] == {
        "comparison": None, "metric": "matthews", "sd": 0.012, "pairs": 8, "margin": margin,
        "budget": 1,
    }  # fmt: skip
    low, high = sd_interval(0.012, 8)
    assert plan["sd_interval"] == [low, high]
    assert plan["needed"] == seeds_needed(0.012, margin, level, 0.7)
    assert plan["needed_interval"] == [seeds_needed(e, margin, level, 0.7) for e in (low, high)]
    few, *others = plan["outlooks"]
    assert few["seeds"] == 5 < minimum_seeds(3, 0.1)
    assert (few["detectable"], few["detectable_interval"]) == (None, [None, None])
    assert (few["power"], few["power_interval"]) == (0, [0, 0])
    for outlook, n in zip(others, (9, 12), strict=True):
        assert outlook["detectable"] == detectable_difference(0.012, n, level, 0.7)
        ends = [detectable_difference(end, n, level, 0.7) for end in (low, high)]
        assert outlook["detectable_interval"] == ends
        assert outlook["power"] == power_of(0.012, margin, n, level)
        assert outlook["power_interval"] == [power_of(e, margin, n, level) for e in (high, low)]


def test_a_given_spread_without_seeds_has_no_interval(
    answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    (plan,) = answer("--sd", "0.012", "--seeds", "30")["plans"]
    assert (plan["sd_interval"], plan["needed_interval"]) == (None, None)
    assert plan["outlooks"][0]["detectable_interval"] is None
    assert main(["--sd", "0.012", "--seeds", "30"]) == 0
    text = capsys.readouterr().out
    assert "standard deviation of the paired differences 1.2 points\n" in text
    assert (
        "14 seeds detect a difference of 1 point of accuracy, the margin, with power 0.8." in text
    )
    assert "estimated from 10, the true spread is 0.69 to 1.83 times as large" in text
    assert "which --sd-seeds N takes into account" in text


def test_the_extremes_have_a_plan(answer: Answer) -> None:
    flags = ("--sd", "0.99", "--sd-seeds", "2", "--margin", "0.0001", "--seeds", "1,100000")
    (plan,) = answer(*flags, "--comparisons", "100000")["plans"]
    low, high = plan["needed_interval"]
    assert low < plan["needed"] < high
    assert 0 < plan["outlooks"][1]["power"] < 0.01
    (plan,) = answer("--sd", "0.000001", "--margin", "0.9", "--seeds", "6")["plans"]
    assert plan["needed"] == 6
    assert plan["outlooks"][0]["power"] == 1


def test_the_spreads_of_an_earlier_study(
    ledger: Ledger, tmp_path: Path, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    few = dict.fromkeys(PAIRS) | {PAIRS[0]: 0.4}  # the others failed
    scores = {"alp": spread(0.8), "pkd": FLAT, "kd": FLAT, "few": few}
    family = [("alp", "kd"), ("pkd", "kd"), ("few", "kd"), ("never", "kd")]
    compared(ledger, scores, family, alpha=0.1)
    found = answer("--runs", str(tmp_path), "--seeds", "30")
    assert (found["alpha"], found["comparisons"]) == (0.1, 4)
    (plan,) = found["plans"]
    assert plan["spread"]["comparison"] == "alp against kd on rte"
    assert (plan["spread"]["metric"], plan["spread"]["pairs"]) == ("accuracy", 10)
    assert plan["spread"]["sd"] == pytest.approx(STEPS_SD)
    assert plan["spread"]["margin"] == METRICS["accuracy"].margin
    assert plan["sd_interval"] == pytest.approx(sd_interval(STEPS_SD, 10))
    assert plan["needed"] == seeds_needed(plan["spread"]["sd"], 0.01, 0.1 / 4)
    assert found["without"] == [
        "never against kd on rte: no pair of finished report runs",
        "pkd against kd on rte: all 10 differences are equal",
        "few against kd on rte: one pair of runs has no spread",
    ]
    other = answer(
        "--runs", str(tmp_path), "--alpha", "0.05", "--comparisons", "1", "--seeds", "30"
    )
    assert other["plans"][0]["needed"] == seeds_needed(plan["spread"]["sd"], 0.01, 0.05)
    assert main(["--runs", str(tmp_path), "--seeds", "30"]) == 0
    text = capsys.readouterr().out
    assert "alpha = 0.1 / 4 comparisons" in text
    assert "alp against kd on rte: standard deviation of the paired differences 2.9 points" in text
    assert all(line in text for line in found["without"])


def test_several_comparisons_take_the_seeds_of_the_widest(
    ledger: Ledger, tmp_path: Path, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = {"alp": spread(0.8, 0.003), "pkd": spread(0.7, 0.006), "kd": FLAT}
    result = compared(ledger, scores, [("alp", "kd"), ("pkd", "kd")])
    config = result.manifest.config
    margins = {**config.protocol.margins, "accuracy": 0.005}
    strict = replace(config, protocol=replace(config.protocol, margins=margins))
    ledger.write_ablation(replace(result.manifest, name="strict", config=strict))
    flags = ("--runs", str(tmp_path), "--ablation", "strict", "--seeds", "30")
    alp, pkd = answer(*flags)["plans"]
    assert pkd["spread"]["sd"] == pytest.approx(2 * alp["spread"]["sd"])
    assert (alp["spread"]["margin"], pkd["spread"]["margin"]) == (0.005, 0.005)
    assert pkd["needed"] > alp["needed"]
    assert main([*flags]) == 0
    needed, upper = pkd["needed"], pkd["needed_interval"][1]
    line = f"All 2 comparisons: {needed} seeds, {upper} at the upper ends of the intervals."
    assert line in capsys.readouterr().out
    wider = answer(*flags, "--margin", "0.02")["plans"]
    assert [plan["spread"]["margin"] for plan in wider] == [0.02, 0.02]


def test_repeats_of_the_whole_are_planned_as_such(
    ledger: Ledger, tmp_path: Path, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pair is a repeat then, its difference that of the means of its report seeds."""
    joined(ledger, [{"alp": (0.5 + step, 0.7 + step), "kd": (0.5, 0.5)} for step in (0, 0.02, 0.1)])
    flags = ("--runs", str(tmp_path), "--ablation", "joint", "--seeds", "30")
    found = answer(*flags)
    assert found["unit"] == "repeats"
    (plan,) = found["plans"]
    assert plan["spread"]["pairs"] == 3
    assert plan["spread"]["sd"] == pytest.approx(math.sqrt((0.04**2 + 0.02**2 + 0.06**2) / 2))
    assert main([*flags]) == 0
    text = capsys.readouterr().out
    assert f"{plan['needed']} repeats detect a difference of 1 point of accuracy" in text
    assert "A spread from few repeats is uncertain: estimated from 3" in text


def test_trials_are_planned_from_the_spread_of_searches(
    answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--sd", "0.016", "--budget", "4", "--sd-seeds", "20", "--comparisons", "6")
    plans = answer(*flags)
    assert (plans["unit"], plans["budget"]) == ("trials", 4)
    (plan,) = plans["plans"]
    sd, level = spread_of_searches(0.016, 4, 20), 0.05 / 6
    assert plan["spread"]["sd"] == sd
    low, high = sd_interval(sd, effective_trials(20, 4))
    assert plan["sd_interval"] == [low, high]
    assert plan["needed"] == trials_needed(sd, 0.01, 4, level)
    assert plan["needed_interval"] == [trials_needed(end, 0.01, 4, level) for end in (low, high)]
    assert [outlook["seeds"] for outlook in plan["outlooks"]] == list(TRIALS)
    least = plan["outlooks"][0]
    assert (least["detectable"], least["power"]) == (None, 0)  # 11 trials are the least
    for outlook in plan["outlooks"][1:]:
        n = outlook["seeds"]
        assert outlook["detectable"] == detectable_tuned_difference(sd, n, 4, level)
        assert outlook["power"] == tuned_power(sd, 0.01, n, 4, level)
    assert main([*flags]) == 0
    text = capsys.readouterr().out
    assert "exchange test of tuned scores with a budget of 4 trials, alpha = 0.05 / 6" in text
    assert "from 20 trials, as uncertain as from 8.1 with a budget of one)" in text
    assert f"{plan['needed']} trials of each method detect a difference of 1 point" in text


def test_the_trials_of_an_earlier_study(
    ledger: Ledger, tmp_path: Path, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    (comparison,) = compared_pools(ledger, {"alp": METHOD, "kd": BASELINE}).comparisons
    sd = comparison.difference.sd
    plans = answer("--runs", str(tmp_path))
    assert (plans["unit"], plans["budget"]) == ("trials", 2)
    (plan,) = plans["plans"]
    assert plan["spread"] == {
        "comparison": "alp against kd on rte", "metric": "accuracy", "sd": sd, "pairs": 6,
        "margin": 0.01, "budget": 2,
    }  # fmt: skip
    assert plan["sd_interval"] == list(sd_interval(sd, effective_trials(6, 2)))
    assert plan["needed"] == trials_needed(sd, 0.01, 2)
    assert comparison.detectable_difference == math.inf  # seven trials are the least
    assert main(["--runs", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "standard deviation of the difference of tuned scores, times √trials, " in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of the arguments --sd --runs is required"),
        (["--sd", "0.01", "--runs", "x"], "not allowed with argument"),
        (["--sd", "1.2"], "--sd: '1.2' is not a number between 0 and 1 (0.01 is one point)"),
        (["--sd", "0"], "'0' is not a number between 0 and 1"),
        (["--sd", "-0.1"], "'-0.1' is not a number between 0 and 1"),
        (["--sd", "nan"], "'nan' is not a number between 0 and 1"),
        (["--sd", "wide"], "'wide' is not a number between 0 and 1"),
        (["--sd", "0.01", "--sd-seeds", "1"], "'1' is not a number from 2 to"),
        (["--sd", "0.01", "--metric", "bleu"], "invalid choice: 'bleu'"),
        (["--sd", "0.01", "--margin", "2"], "--margin: '2' is not a number from 0.0001 to 1"),
        (["--sd", "0.01", "--seeds", "5,ten"], "--seeds: 'ten' is not a number from 1 to"),
        (["--sd", "0.01", "--seeds", "0"], "--seeds: '0' is not a number from 1 to"),
        (["--sd", "0.01", "--seeds", "9" * 5000], "is not a number from 1 to"),
        (["--sd", "0.01", "--power", "1"], "--power: '1' is not a number between 0 and 1"),
        (["--sd", "0.01", "--power", "0.04"], "--power 0.04: is not above alpha, 0.05"),
        (["--sd", "0.01", "--alpha", "0"], "--alpha: '0' is not a number between 0 and 1"),
        (["--sd", "0.01", "--comparisons", "0"], "--comparisons: '0' is not a number from 1 to"),
        (["--sd", "0.01", "--ablation", "a"], "--ablation: cannot be used with --sd"),
        (["--sd", "0.01", "--storage", "a"], "--storage: cannot be used with --sd"),
        (["--runs", "x", "--sd-seeds", "3"], "--sd-seeds: cannot be used with --runs"),
        (["--runs", "x", "--metric", "f1"], "--metric: cannot be used with --runs"),
        (["--runs", "x", "--budget", "4"], "--budget: cannot be used with --runs"),
        (["--sd", "0.01", "--budget", "0"], "--budget: '0' is not a number from 1 to"),
        (
            ["--sd", "0.01", "--budget", "4", "--sd-seeds", "7"],
            "--sd-seeds 7: a budget of 4 takes at least 8 trials",
        ),
        (["--sd", "0.01", "more"], "unrecognized arguments: more"),
        (["--runs", "{0}/none"], "no such folder"),
        (["--runs", "{0}/empty"], "has no ledger.db"),
        (["--runs", "{0}"], "name one of its ablations by --ablation: none yet"),
        (
            ["--runs", "{0}", "--ablation", "a"],
            "--ablation a: not in the ledger, which has none yet",
        ),
        (["--runs", "{0}", "--storage", "nonsense"], "not a database URL"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    ledger: Ledger,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    assert main([argument.format(tmp_path) for argument in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert message in printed.err
    assert not list((tmp_path / "empty").iterdir())


def test_a_study_without_a_spread_says_why(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = compared(ledger, {"alp": FLAT, "kd": FLAT}, [("alp", "kd")])
    assert main(["--runs", str(tmp_path)]) == 2
    assert "no spread to plan from: alp against kd on rte: all 10" in capsys.readouterr().err
    ledger.write_ablation(replace(result.manifest, name="alone", family=()))
    assert main(["--runs", str(tmp_path), "--ablation", "alone"]) == 2
    assert "no spread to plan from: it compares nothing" in capsys.readouterr().err
    assert main(["--runs", str(tmp_path)]) == 2
    assert "by --ablation: ablation, alone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("blocked", "arguments"),
    [
        ("torch,transformers,optuna,plotly", ["--sd", "0.012", "--seeds", "30"]),
        ("torch,transformers,optuna,plotly,scipy,statsmodels,pandas,sqlalchemy", ["--help"]),
    ],
)
def test_it_imports_no_more_than_it_needs(blocked: str, arguments: list[str]) -> None:
    command = [sys.executable, "-W", "error", "-c", BLOCKED, blocked, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 point" in done.stdout or "one point" in done.stdout
