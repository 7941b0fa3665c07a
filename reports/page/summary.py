"""A summary of a report, for the head of its page and for the index of the runs folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.axis_names import value_text
from harness.config import Criterion
from harness.storage.manifest import Manifest, Source
from reports.evidence import POINTS, Evidence
from reports.kit import display
from reports.page import notes, status

CRITERIA: dict[Criterion, str] = {
    "metric": "the first metric, ties by the loss on the labels",
    "loss": "the loss on the labels",
}
"""Each criterion of a selection in words."""
MOST_NAMES = 4
"""The most methods or tasks that a title names."""


def summary(evidence: Evidence) -> dict[str, Any]:
    """The summary that lies in the report's page and makes its entry in the index; plain JSON values."""
    state = status.evidence_progress(evidence)
    return {
        "name": evidence.manifest.name,
        "title": title(evidence.manifest),
        "last": None if state.last is None else state.last.timestamp(),
        "date": state.date,
        "parts": [name for name in evidence.manifest.repeats if name is not None],
        "warnings": [notice.sentences for notice in status.notices(evidence, state)],
        "source": source_text(evidence.manifest.source),
        "banners": list(evidence.result.banners),
        "facts": facts(evidence),
        "tasks": list(evidence.tasks),
        "methods": list(evidence.methods),
        "missing": len(notes.gaps(evidence)),
        "failed": len(notes.failures(evidence)),
        "verdicts": [
            {
                "task": comparison.task,
                "method": comparison.method,
                "baseline": comparison.baseline,
                "outcome": comparison.verdict.outcome,
                "difference": display.signed_text(POINTS * comparison.difference.mean),
            }
            for comparison in evidence.result.comparisons
        ],
    }


def title(manifest: Manifest) -> str:
    """The methods and tasks of a study, and its data, in a few words."""
    methods = sorted(
        {method for studies in manifest.studies.values() for method in studies},
        key=lambda method: (method == manifest.baseline, method),
    )
    names = _listed(methods, "methods")
    grid = manifest.grid
    places = [task if grid is None else grid.places[task].task for task in manifest.studies]
    tasks = _listed([task.upper() for task in dict.fromkeys(places)], "tasks")
    cells = "" if grid is None else f", {len(grid.cells)} cells"
    repeats = f", {len(manifest.repeats)} repeats" if manifest.is_joint else ""
    if manifest.repeat is not None:
        repeats = f", repeat {manifest.repeat + 1}"
    return f"{names} on {tasks}, {manifest.preset}{cells}{repeats}"


def _listed(names: Sequence[str], kind: str) -> str:
    """A few names in words, or the number of many."""
    if len(names) > MOST_NAMES:
        return f"{len(names)} {kind}"
    if len(names) < 2:
        return "".join(names) or f"no {kind}"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def source_text(source: Source) -> str:
    """The kind of a source, with its folder if it has a folder."""
    return f"{source.kind}, {source.folder}" if source.folder else source.kind


def unlabelled_texts(manifest: Manifest) -> dict[str, str]:
    """How many unlabelled texts students are distilled from; empty without such texts.

    All cells of a task have the same texts.
    """
    grid = manifest.grid
    counts = dict.fromkeys(
        f"{task if grid is None else grid.places[task].task}: {facts.unlabelled}, "
        f"{facts.unlabelled / facts.sizes['train']:.3g} for each training example"
        for task, facts in manifest.tasks.items()
        if facts.unlabelled
    )
    if not counts:
        return {}
    words = "the same for all methods, without a label loss"
    return {"unlabelled texts": f"{'; '.join(counts)} ({words})"}


def facts(evidence: Evidence) -> dict[str, str]:
    """The design of the ablation by name: preset, protocol, budget, comparisons."""
    manifest = evidence.manifest
    config = manifest.config
    seeds = str(len(manifest.report_seeds))
    trials = str(manifest.trials)
    axes = {}
    if manifest.grid is not None:
        axes["axes"] = "; ".join(
            f"{key}={', '.join(map(value_text, values))}"
            for key, values in manifest.grid.axes.items()
        )
    design = {
        "data": source_text(manifest.source),
        "preset": manifest.preset,
        **axes,
        "students": manifest.students,
        **unlabelled_texts(manifest),
        "protocol": manifest.protocol,
    }
    if config.protocol.unit == "methods":
        if evidence.sequential:
            trials = f"at most {trials}, until decided"
        budget = config.protocol.budget
        design |= {
            "trials of each method": trials,
            "budget of a tuner": f"{budget} trial{'' if budget == 1 else 's'}",
        }
    else:
        if manifest.is_joint:
            seeds = str(config.protocol.seeds)
        design |= {
            "trials of each search": trials,
            "runs of each trial": str(config.search.seeds),
            "report seeds": f"at most {seeds}, until decided" if evidence.sequential else seeds,
        }
    if manifest.is_joint:
        design["repeats"] = str(config.protocol.repeats)
    design["selection by"] = CRITERIA[config.search.criterion]
    if manifest.family:
        rule = "split evenly" if evidence.sequential else "Holm"
        design["comparisons"] = f"{len(manifest.family)} at level {manifest.alpha:g}, {rule}"
    if manifest.grid is not None:
        design["comparisons along the axes"] = f"{len(manifest.grid.family)}, a family of their own"
    return design
