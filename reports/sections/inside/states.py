"""States and labels: the states of a few runs on a plane, coloured by label."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harness.analysis.inspections import Projection
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
    mixing_methods = (
        name for name, projection in projections.items() if projection.targets is not None
    )
    first = next(mixing_methods, first_method(evidence, projections))
    pooling_words = pooling_row(projections[first].pooling).words
    caption = f"{pooling_words} of {len(labels)} examples of {projections[first].split}"
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
    """The runs that are drawn, and the share of the variance that two components show."""
    runs = []
    for method, projection in projections.items():
        student, teacher = map(_share, (projection.explained[w] for w in ("student", "teacher")))
        shares = student if projection.is_joint else f"{student} and {teacher}"
        mixture_text = "" if projection.targets is not None else ", no mixture"
        runs.append(f"{method}, seed {projection.seed} ({shares}{mixture_text})")
    scope = f", of {methods} methods" if len(projections) < methods else ""
    variance = (
        "of all states together"
        if all(projection.is_joint for projection in projections.values())
        else "of the student's and of the teacher's states, each in a plane of its own"
    )
    return (
        f"Drawn{scope}: {'; '.join(runs)}. In brackets: the share of the variance that the two "
        f"components show, {variance}."
    )


def _share(explained: float) -> str:
    return "no variance" if np.isnan(explained) else f"{100 * explained:.0f} %"


SECTION = Section(
    anchor="states",
    title="Looking inside: states and labels",
    reading=(
        "Each point is the state of one example in one layer, of a student or of the teacher, drawn on "
        "the first two principal components. Colours are the labels."
    ),
    details=(
        "“Target of” a student layer is the mixture of teacher layers that the layer is matched to. "
        "Each panel is centred on the mean state of its layer, and the panels of a row have the same "
        "scale: a layer whose states hardly vary beside those of its row is a dot. If colours lie "
        "apart, the layer tells the labels apart. If colours overlap, less follows, because two "
        "components do not show everything."
    ),
    maker=by_task(states_block),
    reads_verdicts=False,
)
