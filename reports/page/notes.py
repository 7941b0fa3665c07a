"""What a report has to say in words: what is missing, failed, refused or to be read with care."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.compare import collapses
from harness.analysis.results import MethodResult
from reports.evidence import Evidence


def gaps(evidence: Evidence) -> list[str]:
    """Sentences on everything that a finished ablation would have and this one lacks."""
    manifest = evidence.manifest
    sentences = []
    if not evidence.records():
        sentences.append("No run has finished yet.")
    if not manifest.family:
        sentences.append("No comparison was asked for: there is no baseline to compare with.")
    sentences += [f"{sentence}." for sentence in evidence.result.missing]
    for task in evidence.tasks:
        for result in () if manifest.joint else evidence.results(task):
            sentences += _run_gaps(result, evidence)
    sentences += [f"{sentence}." for sentence in collapses(evidence.result)]
    for comparison in evidence.result.comparisons:
        if comparison.unpaired:
            names = f"{comparison.method} against {comparison.baseline} on {comparison.task}"
            seeds = _listed(comparison.unpaired)
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
    """A warning for each thing that differs between runs that are compared here."""
    records = evidence.records()
    seen = {
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
        for name, values in seen.items()
        if len(values) > 1
    ]


def _run_gaps(result: MethodResult, evidence: Evidence) -> list[str]:
    name, manifest = f"{result.method} on {result.task}", evidence.manifest
    finished, asked = len({run.trial for run in result.search}), manifest.trials
    sentences = []
    if finished < asked:
        sentences.append(f"{name}: {finished} of {asked} search trials are finished.")
    pruned = _pruned(result)
    if pruned:
        count = len(set().union(*pruned.values()))
        why = "; ".join(
            f"{reason}: {'trial' if len(trials) == 1 else 'trials'} {_listed(sorted(trials))}"
            for reason, trials in pruned.items()
        )
        sentences.append(f"{name}: {count} of {asked} search trials were pruned ({why}).")
    if finished >= asked and result.best_trial is None:
        sentences.append(f"{name}: no search trial is complete, so there is no best setting.")
    missing = sorted(set(manifest.report_seeds) - set(result.seeds))
    # Where seeds are added until they decide, each verdict says how many it rests on.
    if missing and not evidence.sequential:
        sentences.append(
            f"{name}: {len(missing)} of {len(manifest.report_seeds)} report seeds have no "
            f"finished run (seeds {_listed(missing)})."
        )
    return sentences


def _pruned(result: MethodResult) -> dict[str, set[int]]:
    """The trials that were pruned by the reason that their runs give."""
    found: dict[str, set[int]] = {}
    for run in result.search:
        if run.record.status == "pruned":
            found.setdefault(str(run.record.reason), set()).add(run.trial)
    return found


def _listed(values: Sequence[int]) -> str:
    return ", ".join(str(value) for value in values)
