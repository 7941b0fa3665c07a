"""Sentences on the runs and comparisons that are missing, failed or refused, and warnings."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.compare import collapses
from harness.analysis.results import MethodResult, trials_due
from reports.evidence import Evidence


def gaps(evidence: Evidence) -> list[str]:
    """Sentences on everything that a complete ablation has and this ablation lacks."""
    manifest = evidence.manifest
    sentences = []
    if not evidence.records():
        sentences.append("No run has finished yet.")
    sentences += [f"{sentence}." for sentence in evidence.result.gaps]
    for task in evidence.tasks:
        for result in () if manifest.is_joint else evidence.results(task):
            sentences += _run_gaps(result, evidence)
    sentences += [f"{sentence}." for sentence in collapses(evidence.result)]
    for comparison in evidence.result.comparisons:
        if comparison.unpaired_seeds:
            names = f"{comparison.method} against {comparison.baseline} on {comparison.task}"
            seeds = _number_list(comparison.unpaired_seeds)
            sentences.append(f"{names}: seeds without a partner are left out: {seeds}.")
    sentences += [f"Refused: {name}: {reason}" for name, reason in manifest.refused.items()]
    sentences += [
        f"Plugin {name} could not be loaded: {reason}"
        for name, reason in manifest.broken_plugins.items()
    ]
    return sentences


def failures(evidence: Evidence) -> list[str]:
    """One sentence per failed run, with its reason."""
    return [
        f"{result.method} on {result.task}, {failure}"
        for task in evidence.tasks
        for result in evidence.results(task)
        for failure in result.failures
    ]


def versions(evidence: Evidence) -> list[str]:
    """A warning for each version or machine that differs between the runs of the report."""
    records = evidence.records()
    variants = {
        "results version": {str(record.inputs.results_version) for record in records},
        "code revision": {str(record.provenance.revision) for record in records},
        "processor": {record.provenance.processor for record in records},
        "set of library versions": {
            ", ".join(f"{k} {v}" for k, v in sorted(record.provenance.libraries.items()))
            for record in records
        },
    }
    return [
        f"The runs were made with more than one {name}: {'; '.join(sorted(values))}."
        for name, values in variants.items()
        if len(values) > 1
    ]


def _run_gaps(result: MethodResult, evidence: Evidence) -> list[str]:
    name, manifest = f"{result.method} on {result.task}", evidence.manifest
    trial_count, budget = len({run.trial for run in result.search}), trials_due(result, manifest)
    sentences = []
    trials_name = "trials" if manifest.unit == "trial" else "search trials"
    if trial_count < budget:
        sentences.append(f"{name}: {trial_count} of {budget} {trials_name} are finished.")
    pruned_trials = _trials_by_reason(result)
    if pruned_trials:
        count = len(set().union(*pruned_trials.values()))
        reasons = "; ".join(
            f"{reason}: {'trial' if len(trials) == 1 else 'trials'} {_number_list(sorted(trials))}"
            for reason, trials in pruned_trials.items()
        )
        sentences.append(f"{name}: {count} of {budget} search trials were pruned ({reasons}).")
    if trial_count >= budget and result.best_trial is None:
        sentences.append(f"{name}: none of the {trials_name} is complete.")
    missing_seeds = sorted(set(manifest.report_seeds) - set(result.seeds))
    # In a sequential ablation, each verdict names the number of its seeds.
    if missing_seeds and not evidence.sequential and manifest.unit != "trial":
        sentences.append(
            f"{name}: {len(missing_seeds)} of {len(manifest.report_seeds)} report seeds have no "
            f"finished run (seeds {_number_list(missing_seeds)})."
        )
    return sentences


def _trials_by_reason(result: MethodResult) -> dict[str, set[int]]:
    """The pruned trials by the reason in their runs."""
    trials: dict[str, set[int]] = {}
    for run in result.search:
        if run.record.status == "pruned":
            trials.setdefault(str(run.record.reason), set()).add(run.trial)
    return trials


def _number_list(values: Sequence[int]) -> str:
    return ", ".join(str(value) for value in values)
