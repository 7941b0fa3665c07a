"""What "Looking inside" shows of one task: what layers were matched to, how alike they are, states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd

from harness.analysis.inside import Key, Likeness, Mixture, Projection, Seen
from harness.pooling_table import pooling_row
from reports.evidence import Evidence
from reports.kit import display
from reports.kit.blocks import Block, Panel
from reports.kit.canvas import by_method
from reports.kit.choices import Choice
from reports.kit.display import Columns, Joint, number
from reports.kit.palette import Style
from reports.sections.inside import figures, numbers, states
from reports.sections.inside.numbers import ALL_LAYERS

Found = TypeVar("Found")

NOT_RECORDED = "Not recorded: these runs were trained by an earlier version, which did not look."


def targets_block(evidence: Evidence, task: str, styles: dict[str, Style]) -> Block:
    """A heat map per method that mixes layers, their entropy by epoch, and a table of all targets."""
    found = _of_task(evidence.inside.targets, task, styles)
    if not found:
        return Block("")
    mixtures = {name: own.mixture for name, own in found.items() if own.mixture is not None}
    panels = [_mixture_panel(method, mixture) for method, mixture in mixtures.items()]
    trained = {name: own for name, own in mixtures.items() if len(own.epochs) > 1}
    if trained:
        panels.append(_entropy_panel(trained, styles))
    columns: Columns = {
        "method": ("method", None),
        "student_layer": ("student layer", number(0)),
        "entropy": ("entropy, % of its maximum", _SPREAD),
        "target_length": ("length of the target", number(3)),
        "variance_percent": ("target varies between examples, %", number(2)),
        "examples": ("examples", number(0)),
        "seeds": ("seeds", number(0)),
    }
    frame = numbers.targets_frame(found)
    shown = display.table("What student layers are matched to", frame, columns, styles)
    return Block(evidence.task_label(task), panels=tuple(panels), tables=(shown,))


def likeness_block(evidence: Evidence, task: str, styles: dict[str, Style]) -> Block:
    """Similarity of student and teacher layers before and after training."""
    found = _of_task(evidence.inside.likeness, task, styles)
    if not found:
        return _nothing(evidence, task)
    caption = f"Similarity of layers, {_where(found)}"
    summary = numbers.likeness_summary(found)
    first = _compared(evidence, found)
    panel = Panel(
        caption,
        f"{caption}. CKA with the most similar teacher layer, mean over student layers: "
        f"{_risen(summary)}.",
        figures.likeness_figure(found, first),
        display.Numbers(numbers.likeness_frame(found)),
        choice=_choice("method", list(found), list(found).index(first)),
    )
    columns: Columns = {
        "method": ("method", None),
        "cka_before": ("CKA before", number(3)),
        "cka_after": ("CKA after", number(3)),
        "nearest": ("teacher layers most alike after", None),
        "cosine_before": ("cosine before", number(3)),
        "cosine_after": ("cosine after", number(3)),
    }
    title = "Similarity with the most similar teacher layer, mean over student layers"
    shown = display.table(title, summary, columns, styles)
    return Block(evidence.task_label(task), panels=(panel,), tables=(shown,))


def states_block(evidence: Evidence, task: str, styles: dict[str, Style]) -> Block:
    """States of a few methods on a plane, coloured by label."""
    found = _of_task(evidence.inside.projections, task, styles)
    if not found:
        return _nothing(evidence, task)
    labels = next(iter(found.values())).labels
    classes = np.unique(labels).tolist() if np.issubdtype(labels.dtype, np.integer) else []
    looks = states.label_looks(classes)
    names = evidence.manifest["tasks"][task].get("labels") or ()
    notes = [_drawn_text(found, len(evidence.results(task)))]
    mixed = (name for name, own in found.items() if own.fused is not None)
    first = next(mixed, _compared(evidence, found))
    pooled = pooling_row(found[first].pooling).words
    caption = f"{pooled} of {len(labels)} examples of {found[first].split}"
    panel = Panel(
        caption,
        f"{caption}, coloured by label. {notes[0]}",
        states.states_figure(found, looks, first),
        display.Numbers(states.states_frame(found)),
        tuple((_class_name(names, label), look) for label, look in looks.items()),
        _choice("method", list(found), list(found).index(first)),
    )
    return Block(evidence.task_label(task), tuple(notes), panels=(panel,))


def angles_block(evidence: Evidence, task: str, styles: dict[str, Style]) -> Block:
    """Angles between teacher layers as student layers see them."""
    found = _of_task(evidence.inside.likeness, task, styles)
    if not found:
        return _nothing(evidence, task)
    angles = numbers.angle_frame(found)
    if angles.empty:
        return Block(
            evidence.task_label(task), ("No angles: they need equal widths and two layers.",)
        )
    said = _acute_text(angles)
    caption = f"Angles between pairs of teacher layers, {_where(found)}"
    layers = [f"{layer}" for layer in sorted(set(angles["student_layer"]))]
    panel = Panel(
        caption,
        f"{caption}. {said}",
        figures.angles_figure(angles, styles),
        display.Numbers(angles),
        choice=_choice("student layer", layers, len(layers) - 1, ordered=True),
    )
    return Block(evidence.task_label(task), (said,), panels=(panel,))


def _mixture_panel(method: str, mixture: Mixture) -> Panel:
    last = mixture.weights[:, -1]
    most = last.mean(axis=0).argmax(axis=1) + 1
    sd = numbers.spread(last).sd
    alt = "; ".join(
        f"student layer {layer} looks most at teacher layer {teacher}"
        for layer, teacher in enumerate(most, start=1)
    )
    if np.isfinite(sd).all():
        alt += f"; weights differ between seeds by a standard deviation of at most {sd.max():.3f}"
    caption = f"{method}: mean weights, {_seen_text(mixture.seen)}"
    return Panel(
        caption,
        f"{caption}. After epoch {mixture.epochs[-1]}: {alt}.",
        figures.mixture_figure(mixture),
        display.Numbers(numbers.weights_frame(mixture)),
        choice=_choice(
            "epoch", [str(e) for e in mixture.epochs], len(mixture.epochs) - 1, ordered=True
        ),
    )


def _entropy_panel(mixtures: Mapping[str, Mixture], styles: dict[str, Style]) -> Panel:
    frame = numbers.entropy_frame(mixtures)
    caption = "Entropy of the weights by epoch"
    rows = frame[frame["student_layer"] == ALL_LAYERS]
    alt = "; ".join(
        f"{method} goes from {own['mean'].iloc[0]:.1f} to {own['mean'].iloc[-1]:.1f} %"
        for method, own in by_method(rows)
    )
    layers = ["all, their mean", *figures.entropy_layers(frame)[1:]]
    return Panel(
        caption,
        f"{caption}, mean over student layers: {alt}.",
        figures.entropy_figure(frame, styles),
        display.Numbers(frame),
        tuple((method, styles[method]) for method in mixtures),
        _choice("student layers", layers, 0),
    )


def _entropy_text(mean: float, sd: float, low: float, high: float) -> str:
    if np.isnan(mean):
        return display.NOTHING
    return f"{mean:.1f}" if np.isnan(sd) else f"{mean:.1f} (sd {sd:.1f}, {low:.1f} to {high:.1f})"


_SPREAD = Joint(
    ("entropy_sd", "entropy_low", "entropy_high"),
    ("mean", "sd", "lowest", "highest"),
    _entropy_text,
)


def _acute_text(angles: pd.DataFrame) -> str:
    """One line: whether the angles after training are acute, and the widest."""
    after = angles[angles["when"] == "after"].dropna(subset="acute")
    if after.empty:
        return "No angle could be measured after training."
    methods = [method for method, own in by_method(after) if (own["acute"] == 100).all()]
    widest = after.iloc[int(after["highest"].argmax())]
    return (
        f"After training all mean angles are acute with {len(methods)} of {after['method'].nunique()} "
        f"methods; the widest mean is {widest['highest']:.0f}° ({widest['method']}, student layer "
        f"{widest['student_layer']})."
    )


def _drawn_text(projections: Mapping[str, Projection], methods: int) -> str:
    """Which runs are drawn, and how much of them two components show."""
    runs = []
    for method, projection in projections.items():
        student, teacher = map(_share, (projection.explained[w] for w in ("student", "teacher")))
        shares = student if projection.joint else f"{student} and {teacher}"
        mixed = "" if projection.fused is not None else ", nothing mixed"
        runs.append(f"{method}, seed {projection.seed} ({shares}{mixed})")
    which = f"of {methods} methods " if len(projections) < methods else ""
    plane = (
        "the variance of all states together"
        if all(projection.joint for projection in projections.values())
        else "the variance of the student's states and of the teacher's, each in a plane of its own"
    )
    return f"Drawn {which}(in brackets the share of {plane}): {'; '.join(runs)}."


def _share(explained: float) -> str:
    return "no variance" if np.isnan(explained) else f"{100 * explained:.0f} %"


def _class_name(names: Sequence[str], label: int) -> str:
    return str(names[label]) if 0 <= label < len(names) else f"label {label}"


def _of_task(
    found: Mapping[Key, Found], task: str, styles: Mapping[str, Style]
) -> dict[str, Found]:
    """By method, in the report's order."""
    return {method: found[task, method] for method in styles if (task, method) in found}


def _nothing(evidence: Evidence, task: str) -> Block:
    """That nothing was recorded, where there was something to look at."""
    looked = any(own == task for own, _ in evidence.inside.looked)
    return Block(evidence.task_label(task), (NOT_RECORDED,)) if looked else Block("")


def _compared(evidence: Evidence, found: Iterable[str]) -> str:
    """The method to begin with: the first that is not the baseline."""
    others = [method for method in found if method != evidence.manifest.get("baseline")]
    return (others or list(found))[0]


def _where(found: Mapping[str, Likeness]) -> str:
    pooling = next(iter(found.values())).pooling
    return f"{pooling_row(pooling).words} of {_seen_text(*(one.seen for one in found.values()))}"


def _seen_text(*seen: Seen) -> str:
    """What was looked at, of one or of several that may differ in numbers."""
    examples = _from_to([one.examples for one in seen])
    seeds = _from_to([one.seeds for one in seen])
    return f"{examples} examples of {seen[0].split}, {seeds} seed{'' if seeds == '1' else 's'}"


def _from_to(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"


def _risen(summary: pd.DataFrame) -> str:
    return "; ".join(
        f"{row['method']} {number(2)(row['cka_before'])} before training, "
        f"{number(2)(row['cka_after'])} after"
        for row in summary.to_dict("records")
    )


def _choice(
    label: str, options: Sequence[str], first: int, *, ordered: bool = False
) -> Choice | None:
    """A choice where there is more than one state."""
    return Choice(label, tuple(options), first, ordered) if len(options) > 1 else None
