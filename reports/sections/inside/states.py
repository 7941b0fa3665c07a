"""States and labels: the states of a few runs on a plane, coloured by label."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harness.analysis.inside import Projection
from harness.pooling_table import pooling_row
from reports.evidence import Evidence
from reports.kit.blocks import Block, Panel, Section, by_task
from reports.kit.choices import choice_of
from reports.kit.display import Numbers
from reports.kit.palette import Styles
from reports.sections.inside import plane
from reports.sections.inside.coverage import first_method, not_recorded, of_task


def states_block(evidence: Evidence, task: str, styles: Styles) -> Block:
    """States of a few methods on a plane, coloured by label."""
    projections = of_task(evidence.internals.projections, task, styles)
    if not projections:
        return not_recorded(evidence, task)
    labels = next(iter(projections.values())).labels
    classes = np.unique(labels).tolist() if np.issubdtype(labels.dtype, np.integer) else []
    looks = plane.label_looks(classes)
    names = evidence.manifest.tasks[task].labels
    notes = [_drawn_text(projections, len(evidence.results(task)))]
    mixed = (name for name, projection in projections.items() if projection.fused is not None)
    first = next(mixed, first_method(evidence, projections))
    pooled = pooling_row(projections[first].pooling).words
    caption = f"{pooled} of {len(labels)} examples of {projections[first].split}"
    states = Panel(
        caption,
        f"{caption}, coloured by label. {notes[0]}",
        plane.states_figure(projections, looks, first),
        Numbers(plane.states_frame(projections)),
        tuple((names[label], look) for label, look in looks.items()),
        choice_of("method", list(projections), list(projections).index(first)),
    )
    return Block(evidence.task_label(task), tuple(notes), panels=(states,))


def _drawn_text(projections: Mapping[str, Projection], methods: int) -> str:
    """Which runs are drawn, and how much of them two components show."""
    runs = []
    for method, projection in projections.items():
        student, teacher = map(_share, (projection.explained[w] for w in ("student", "teacher")))
        shares = student if projection.joint else f"{student} and {teacher}"
        mixed = "" if projection.fused is not None else ", nothing mixed"
        runs.append(f"{method}, seed {projection.seed} ({shares}{mixed})")
    which = f"of {methods} methods " if len(projections) < methods else ""
    variance = (
        "the variance of all states together"
        if all(projection.joint for projection in projections.values())
        else "the variance of the student's states and of the teacher's, each in a plane of its own"
    )
    return f"Drawn {which}(in brackets the share of {variance}): {'; '.join(runs)}."


def _share(explained: float) -> str:
    return "no variance" if np.isnan(explained) else f"{100 * explained:.0f} %"


SECTION = Section(
    anchor="states",
    title="Looking inside: states and labels",
    reading=(
        "Each point is one example's state in one layer of one student or of the teacher, on "
        "the first two principal components; colours are the labels."
    ),
    details=(
        "“Target of” a student layer is the mixture that it is matched to. Panels share their "
        "axes, where widths differ those of a row: a layer whose states hardly vary is a dot. "
        "Colours that lie apart are told apart in that layer; that they overlap says less, "
        "since two components are not all."
    ),
    maker=by_task(states_block),
)
