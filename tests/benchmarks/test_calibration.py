"""The calibration finds what is wrong, passes what is right, and knows the truth of what it draws."""

import json
import sys
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats

from benchmarks import (
    calibration,
    checks,
    multiple_checks,
    pool_checks,
    power_checks,
    simulated,
    tuned_example_checks,
)
from benchmarks.rates import DisagreementError, Rate, Size, false_positives
from harness.stats import (
    Interval,
    crossed_bootstraps,
    paired_effects,
    repeated_interval,
    stopping,
)
from harness.stats.examples import McNemar, mcnemar
from harness.stats.pool_stopping import pool_interval, pool_stopping, sequential_exchange
from harness.stats.power import power_of, seeds_needed
from harness.stats.sequential import sequential_sign_flip
from harness.stats.signflip import exact_p_values
from harness.stats.spread import sd_interval
from harness.stats.tuned_power import detectable_tuned_difference

SMALL = Size(600, 5, 1, 300, 100, 300, 200)
TINY = Size(30, 15, 1, 2, 2, 2, 2)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def by_statistic(rates: list[Rate]) -> dict[str, Rate]:
    return {f"{rate.part}: {rate.statistic}": rate for rate in rates}


def test_the_command_simulates_everything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(calibration, "QUICK_SIZE", TINY)
    monkeypatch.setattr(calibration, "SEEDS", (6, 10))
    monkeypatch.setattr(calibration, "POOL_CASES", ((8, 3),))
    monkeypatch.setattr(pool_checks, "TRUTH_SEARCHES", 1000)
    monkeypatch.setattr(power_checks, "SPREAD_SEARCHES", 50)
    monkeypatch.setattr(tuned_example_checks, "TRUTH_SEARCHES", 1000)
    code = calibration.main(["--quick", "--json", "--processes", "1"])
    printed = json.loads(capsys.readouterr().out)
    rates = printed["rates"]
    assert (printed["simulations"], printed["seed"]) == (30, 0)
    assert code == int(any(rate["is_claimed"] and not rate["holds"] for rate in rates))
    parts = {rate["part"] for rate in rates}
    assert parts == set(calibration.PARTS)
    tests = {(r["statistic"], r["data"]) for r in rates if r["part"] == "false positives"}
    laws = {*simulated.SYMMETRIC_LAWS, *simulated.SKEWED_LAWS}
    names = ("sign-flip", "equivalence, at the margin", "signed ranks", "t")
    assert tests == {(name, law) for name in names for law in laws}
    assert all(r["simulations"] > 0 and 0 <= r["rate"] <= 1 for r in rates)
    skewed = [
        r for r in rates if r["data"] in simulated.SKEWED_LAWS and r["statistic"] == "sign-flip"
    ]
    assert skewed
    assert not any(r["is_claimed"] for r in skewed)


@pytest.mark.parametrize("flags", [["--processes", "0"], ["--seed", "-1"]])
def test_a_number_that_is_none_is_refused(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibration.main(flags) == 2
    assert capsys.readouterr().err == f"{flags[0]}: {flags[1]} is below {1 + int(flags[1])}\n"


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing() -> None:
    cells = [
        partial(checks.paired_rates, "normal", 6, size=TINY),
        partial(multiple_checks.sequential_rates, "normal", 10, 1, size=SMALL),
        partial(power_checks.power_rates, "normal", 1.0, 8, 1, size=SMALL),
    ]
    alone = calibration.measure(cells, 1, seed=3)
    assert calibration.measure(cells, 2, seed=3) == alone
    assert calibration.measure(cells, 1, seed=4) != alone


def test_a_test_that_rejects_too_often_is_flagged_and_a_fair_one_is_not() -> None:
    """The normal quantile with six seeds, instead of Student's: its level is .107, by the t law."""
    samples = rng().normal(size=(4000, 6))
    t = scipy.stats.ttest_1samp(samples, 0, axis=1)
    assert 2 * scipy.stats.t.sf(1.96, 5) == pytest.approx(0.107, abs=0.001)
    z = false_positives("tests", "z", "normal", 6, abs(t.statistic) > 1.96, is_claimed=True)
    fair = false_positives("tests", "t", "normal", 6, t.pvalue < 0.05, is_claimed=True)
    shown = replace(z, is_claimed=False)
    assert z.rate == pytest.approx(0.107, abs=0.015)
    assert (z.holds, fair.holds) == (False, True)
    assert calibration.missed_claims([z, fair, shown]) == [z]


@pytest.mark.parametrize(
    ("bound", "slack", "low", "high"),
    [("at most", 0.0, 0.0, 0.53), ("at least", 0.0, 0.47, 1.0), ("about", 0.1, 0.37, 0.63)],
)
def test_a_rate_may_be_off_by_its_slack_and_three_standard_errors(
    bound: Any, slack: float, low: float, high: float
) -> None:
    """With 2500 simulations of one half the standard error is .01."""
    rate = Rate("part", "statistic", "data", 6, 0.5, 2500, 0.5, bound, slack=slack)
    assert rate.standard_error == pytest.approx(0.01)
    assert replace(rate, rate=low + 1e-9).holds
    assert replace(rate, rate=high - 1e-9).holds
    assert low == 0.0 or not replace(rate, rate=low - 1e-6).holds
    assert high == 1.0 or not replace(rate, rate=high + 1e-6).holds


def test_levels_that_so_many_seeds_can_have() -> None:
    assert checks.reachable_level(6, 2) == 2 / 64
    assert checks.reachable_level(8, 2) == 12 / 256
    assert checks.reachable_level(10, 2) == 50 / 1024
    assert checks.reachable_level(6, 1) == 3 / 64
    assert checks.reachable_level(5, 2) == 0.0


def test_sign_flips_have_the_level_that_they_can_have() -> None:
    """Where nothing ties, the rate is the level itself, not only below it."""
    found = by_statistic(
        checks.paired_rates("Laplace", 6, replace(SMALL, simulations=20_000), rng())
    )
    for name in ("sign-flip", "equivalence, at the margin"):
        rate = found[f"false positives: {name}"]
        assert rate.attainable_level is not None
        assert rate.rate == pytest.approx(rate.attainable_level, abs=4 * rate.standard_error)
    covered = found["coverage: sign-flip, 95 %"].rate
    assert covered == pytest.approx(1 - 2 / 64, abs=0.006)


def test_skewed_differences_are_shown_beside_and_break_the_level() -> None:
    found = checks.paired_rates("exponential", 10, replace(SMALL, simulations=4000), rng())
    broken = by_statistic(found)["false positives: sign-flip"]
    assert not broken.is_claimed
    assert not broken.holds
    assert broken.rate == pytest.approx(0.09, abs=0.02)


Cell = partial[list[Rate]]


def bigger_alpha(path: Any, most: int, alpha: float, **given: Any) -> Any:
    return sequential_sign_flip(path, most, 4 * alpha, **given)


def halved_mcnemar(*given: Any) -> McNemar:
    tested = mcnemar(*given)
    return replace(tested, p_value=tested.p_value / 4, mid_p_value=tested.mid_p_value / 4)


def bolder_effects(*given: Any) -> Any:
    tested = paired_effects(*given)
    return replace(
        tested,
        t_p_value=tested.t_p_value / 4,
        wilcoxon_p_value=tested.wilcoxon_p_value / 4,
        superiority_interval=Interval(tested.superiority, tested.superiority),
        bca_interval=None,
    )


def narrow_crossed(*given: Any) -> Any:
    return crossed_bootstraps(*given, confidence=0.6)


POOL_CELL = partial(
    pool_checks.look_rates,
    "normal",
    "normal",
    30,
    4,
    size=replace(SMALL, sequential_simulations=200),
)


def searches_alone(mean: float, searches: Interval, *_: Any) -> Any:
    return searches


def examples_alone(mean: float, searches: Interval, bootstrap: Any, examples: int) -> Any:
    return bootstrap


FAULTS: list[tuple[str, Any, Cell, set[str]]] = [
    (
        "exact_p_values",
        lambda *given: exact_p_values(*given) / 4,
        partial(checks.paired_rates, "normal", 8, size=replace(SMALL, function_calls=0)),
        {
            "false positives: sign-flip",
            "false positives: equivalence, at the margin",
            "coverage: sign-flip, 95 %",
            "coverage: sign-flip, 90 %",
        },
    ),
    (
        "paired_effects",
        bolder_effects,
        partial(checks.effect_rates, "normal", 10, size=SMALL),
        {
            "false positives: signed ranks",
            "false positives: t",
            "coverage: chance to win",
            "coverage: BCa",
        },
    ),
    (
        "mcnemar",
        halved_mcnemar,
        partial(checks.mcnemar_rates, simulated.CONCENTRATIONS[1], size=SMALL),
        {
            "false positives over examples: McNemar, exact",
            "false positives over examples: McNemar, mid-p",
        },
    ),
    (
        "crossed_bootstraps",
        narrow_crossed,
        partial(checks.crossed_rates, "examples dominate", 6, size=SMALL),
        {"coverage: crossed bootstrap"},
    ),
    (
        "tuned_interval",
        searches_alone,
        partial(tuned_example_checks.over_examples_rates, "examples dominate", 277, size=SMALL),
        {
            "tuned scores: over searches and examples: better or worse",
            "tuned scores: over searches and examples: equivalent, at the margin",
            "coverage: over searches and examples, copies",
            "coverage: over searches and examples, at the margin",
        },
    ),
    (
        "tuned_interval",
        examples_alone,
        partial(tuned_example_checks.over_examples_rates, "trials dominate", 277, size=SMALL),
        {
            "coverage: over searches and examples, copies",
            "coverage: over searches and examples, at the margin",
        },
    ),
    (
        "holm",
        lambda family: tuple(family),
        partial(multiple_checks.family_rates, "normal", 10, 0, True, size=SMALL),
        {"any false positive of 15: Holm, 15 of 15 equal"},
    ),
    (
        "sequential_sign_flip",
        bigger_alpha,
        partial(multiple_checks.sequential_rates, "normal", 10, 1, size=SMALL),
        {"any false positive of all looks: sequential, looks from pair 1"},
    ),
    (
        "sequential_sign_flip",
        bigger_alpha,
        partial(multiple_checks.one_sided_rates, "normal", 10, size=SMALL),
        {"any false positive of all looks: sequential, below the margin"},
    ),
    (
        "stopping",
        lambda path, most, alpha, margin: stopping(path, most, 4 * alpha, margin),
        partial(multiple_checks.stopping_rates, "normal", 10, size=SMALL),
        {
            "any false positive of all looks: until decided: better or worse",
            "any false positive of all looks: until decided: equivalent",
        },
    ),
    (
        "repeated_interval",
        lambda path, most, alpha: repeated_interval(path, most, 4 * alpha),
        partial(
            multiple_checks.repeated_interval_rates,
            "normal",
            8,
            size=replace(SMALL, sequential_simulations=100),
        ),
        {"coverage: repeated, at all looks"},
    ),
    (
        "pool_stopping",
        lambda looks, trials, most, alpha, margin: pool_stopping(
            looks, trials, most, 4 * alpha, margin
        ),
        POOL_CELL,
        {"tuned scores: looks at pools: better or worse"},
    ),
    (
        "sequential_exchange",
        lambda looks, most, alpha, **given: sequential_exchange(looks, most, 4 * alpha, **given),
        POOL_CELL,
        {"tuned scores: looks at pools: below the margin"},
    ),
    (
        "pool_interval",
        lambda looks, most, alpha: pool_interval(looks, most, 4 * alpha),
        POOL_CELL,
        {"coverage: repeated, at all looks at pools"},
    ),
    (
        "sd_interval",
        lambda sd, n: sd_interval(sd, n, confidence=0.85),
        partial(checks.spread_rates, "normal", 6, size=SMALL),
        {"coverage: spread"},
    ),
    (
        "power_of",
        lambda *given: power_of(*given) + 0.12,
        partial(power_checks.power_rates, "normal", 1.0, 8, 1, size=SMALL),
        {"power: power_of"},
    ),
    (
        "seeds_needed",
        lambda *given: seeds_needed(*given) - 3,
        partial(power_checks.seeds_rates, 1.0, 1, size=SMALL),
        {"power: seeds_needed"},
    ),
    (
        "seeds_needed",
        lambda *given: seeds_needed(*given) + 4,
        partial(power_checks.seeds_rates, 1.0, 1, size=SMALL),
        {"power: one seed fewer"},
    ),
    (
        "detectable_tuned_difference",
        lambda *given: 1.4 * detectable_tuned_difference(*given),
        partial(power_checks.tuned_rates, "normal", 12, 4, size=SMALL),
        {"power: detectable_tuned_difference"},
    ),
    (
        "effective_trials",
        lambda trials, _: trials,
        partial(power_checks.tuned_rates, "normal", 12, 4, size=SMALL),
        {"coverage: spread of tuned scores"},
    ),
]


@pytest.mark.parametrize(
    ("name", "wrong", "cell", "flagged"), FAULTS, ids=[name for name, *_ in FAULTS]
)
def test_every_check_finds_a_fault_and_passes_without_it(
    name: str,
    wrong: Any,
    cell: Cell,
    flagged: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert calibration.missed_claims(calibration.measure([cell], 1, seed=0)) == []
    monkeypatch.setattr(sys.modules[cell.func.__module__], name, wrong)
    found = calibration.missed_claims(calibration.measure([cell], 1, seed=0))
    assert set(by_statistic(found)) == flagged


def test_looking_after_every_pair_with_a_test_for_fixed_n_is_no_test() -> None:
    (found,) = multiple_checks.repeated_rates("normal", 12, SMALL, rng())
    assert not found.is_claimed
    assert 0.09 < found.rate < 0.16


@pytest.mark.parametrize("n", [8, 22])
def test_fast_numbers_that_users_would_not_get_are_refused(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = replace(SMALL, simulations=20, function_calls_wide=5)
    assert power_checks.power_rates("normal", 0.3, n, 1, size, rng())
    monkeypatch.setattr(power_checks, "exact_p_values", lambda *given: 0.9 * exact_p_values(*given))
    with pytest.raises(DisagreementError, match="p value"):
        power_checks.power_rates("normal", 0.3, n, 1, size, rng())


def test_the_first_of_a_family_differ_and_the_others_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    families: list[npt.NDArray[np.float64]] = []
    monkeypatch.setattr(
        multiple_checks, "holm", lambda family: families.append(family) or tuple(family)
    )
    multiple_checks.family_rates("normal", 10, 5, False, SMALL, rng())
    p_values = np.array(families)
    assert p_values.shape == (SMALL.simulations, 15)
    assert np.mean(p_values[:, :5] < 0.05) > 0.99
    assert np.mean(p_values[:, 5:] < 0.05) == pytest.approx(50 / 1024, abs=0.01)


def signs_of_the_largest(law: str) -> tuple[int, int]:
    """How often the largest of six differences is positive, and how often it is not zero."""
    method, baseline = simulated.paired_scores(law, 4000, 6, rng())
    differences = np.round(method - baseline, 12)
    places = abs(differences).argmax(axis=1)[:, None]
    largest = np.take_along_axis(differences, places, axis=1)
    return int((largest > 0).sum()), int((largest != 0).sum())


@pytest.mark.parametrize("law", simulated.SYMMETRIC_LAWS)
def test_exchangeable_methods_differ_in_either_direction_alike(law: str) -> None:
    assert scipy.stats.binomtest(*signs_of_the_largest(law)).pvalue > 1e-3


@pytest.mark.parametrize("law", simulated.SKEWED_LAWS)
def test_skewed_differences_are_not_symmetric(law: str) -> None:
    assert scipy.stats.binomtest(*signs_of_the_largest(law)).pvalue < 1e-6


def test_accuracies_tie_as_those_on_277_examples_do() -> None:
    method, baseline = simulated.paired_scores(simulated.ACCURACIES, 500, 10, rng())
    examples = (method - baseline) * 277
    assert np.allclose(examples, np.round(examples))
    assert 0.1 < np.mean(np.round(examples) == 0) < 0.25
    assert np.mean([len(set(row)) for row in np.round(examples)]) < 8


@pytest.mark.parametrize("law", simulated.SKEWED_LAWS)
def test_skewed_differences_have_mean_zero_and_a_known_chance_to_win(law: str) -> None:
    method, baseline = simulated.paired_scores(law, 20_000, 10, rng())
    differences = (method - baseline).ravel()
    assert differences.mean() == pytest.approx(0, abs=5 * differences.std() / np.sqrt(200_000))
    assert np.mean(differences > 0) == pytest.approx(simulated.WINS[law], abs=0.005)


@pytest.mark.parametrize("mixture", simulated.MIXTURES)
def test_crossed_answers_have_the_difference_that_is_known(mixture: str) -> None:
    variances = simulated.MIXTURES[mixture]
    assert sum(variances) == pytest.approx(1)
    generator = rng()
    found = np.array(
        [
            [right.mean() for right in simulated.crossed_answers(variances, 4, generator)]
            for _ in range(1500)
        ]
    )
    errors = found.std(axis=0) / np.sqrt(len(found))
    assert np.all(abs(found.mean(axis=0) - (0.70, 0.67)) < 4 * errors)


@pytest.mark.parametrize("law", simulated.STANDARD_DEVIATIONS)
def test_standardised_draws_have_variance_one(law: str) -> None:
    drawn = simulated.standard_draws(law, 20_000, 10, rng())
    assert drawn.mean() == pytest.approx(0, abs=0.01)
    assert drawn.var() == pytest.approx(1, abs=0.03)


def test_the_tables_show_what_is_claimed_and_what_fails(capsys: pytest.CaptureFixture[str]) -> None:
    good = Rate("false positives", "sign-flip", "normal", 6, 0.031, 1000, 0.05, "at most")
    rates = [
        replace(good, attainable_level=0.03125),
        replace(good, n=8, rate=0.2),
        replace(good, data="exponential", rate=0.123, is_claimed=False),
        Rate("power", "power_of", "d = 1", 10, 0.81, 1000, 0.793, "about", slack=0.03),
    ]
    calibration._show(rates)
    shown = capsys.readouterr().out
    assert "20.0 !" in shown
    assert "(12.3)" in shown
    assert "≈ 79.3" in shown
    assert "2 of 3 claims hold." in shown
    assert "does not hold: sign-flip, normal, n = 8: 20.0 !" in shown


def test_the_true_tuned_score_of_normal_qualities() -> None:
    """The mean of the largest of four normal numbers is 1.0294; noise shrinks the kept quality."""
    variance = 1 + pool_checks.SELECTION_NOISE**2
    truth = pool_checks.true_tuned_score("normal", 4, rng())
    assert truth == pytest.approx(simulated.UNIT * 1.02938 / variance**0.5, abs=1e-4)
    assert pool_checks.true_tuned_score("normal", 1, rng()) == pytest.approx(0, abs=1e-4)


def test_the_exchange_test_keeps_its_level_and_misses_it_where_the_truth_is_moved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates = by_statistic(pool_checks.exchange_rates("levels", "levels", 12, 4, SMALL, rng()))
    assert all(rate.is_claimed and rate.holds for rate in rates.values())
    assert len(rates) == 3
    mixed_rates = pool_checks.exchange_rates("normal", "wide", 12, 4, SMALL, rng())
    assert not any(rate.is_claimed for rate in mixed_rates)
    assert mixed_rates[0].rate == pytest.approx(0.05, abs=0.06)
    monkeypatch.setattr(pool_checks, "true_tuned_score", lambda *_: 0.0)
    moved_rates = pool_checks.exchange_rates("normal", "wide", 24, 4, SMALL, rng())
    assert moved_rates[0].rate > 0.3
    assert moved_rates[2].rate < 0.7


@pytest.mark.parametrize("mixture", tuned_example_checks.MIXTURES)
def test_simulated_trials_have_the_true_tuned_difference_that_is_known(mixture: str) -> None:
    """The mean difference of the accuracies of kept trials, over many studies."""
    effects, generator = tuned_example_checks.MIXTURES[mixture], rng()
    assert effects.difficulty + effects.example + effects.luck == pytest.approx(1)
    shift = tuned_example_checks.threshold_of(effects, 0.06, generator)
    found = []
    for _ in range(800):
        selections, qualities = tuned_example_checks.draw_study(effects, 100, generator)
        kept = [
            quality[: tuned_example_checks.BUDGET][
                selection[: tuned_example_checks.BUDGET].argmax()
            ]
            for selection, quality in zip(selections, qualities, strict=True)
        ]
        thresholds = (shift, tuned_example_checks.THRESHOLD)
        scores = [np.mean(q > -t) for q, t in zip(kept, thresholds, strict=True)]
        found.append(scores[0] - scores[1])
    assert np.mean(found) == pytest.approx(0.06, abs=4 * np.std(found) / np.sqrt(len(found)))
