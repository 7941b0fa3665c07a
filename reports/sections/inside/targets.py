"""The targets of student layers: mixtures of teacher layers by epoch, and a table of all targets."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from harness.analysis.inspections import Mixture, Targets
from reports.evidence import Evidence
from reports.kit import display
from reports.kit.blocks import Block, Panel, Section, by_task, method_key, panel
from reports.kit.canvas import by_method
from reports.kit.choices import choice_of
from reports.kit.display import Columns, JointColumn, Numbers, number
from reports.kit.palette import Styles
from reports.sections.inside.coverage import coverage_text, of_task
from reports.sections.inside.mixtures import (
    ALL_LAYERS,
    entropy_figure,
    entropy_frame,
    entropy_layers,
    largest_weight,
    mixture_figure,
    spread,
    weights_frame,
)


def targets_frame(targets: Mapping[str, Targets]) -> pd.DataFrame:
    """One row per method and student layer (from 1): the layer's target after training.

    Entropy, its spread between seeds (NaN if nothing is mixed) and the variance share are in percent.
    `examples` and `seeds` are the numbers of examples and seeds behind the row.
    """
    parts = []
    for method, target in targets.items():
        layers = len(target.target_length)
        entropy = np.full((target.coverage.seeds, layers), np.nan)
        if target.mixture is not None:
            entropy = 100 * target.mixture.entropy[:, -1]
        over_seeds = spread(entropy)
        parts.append(
            pd.DataFrame(
                {
                    "method": method,
                    "student_layer": np.arange(1, layers + 1),
                    "entropy": over_seeds.mean,
                    "entropy_sd": over_seeds.sd,
                    "entropy_low": over_seeds.low,
                    "entropy_high": over_seeds.high,
                    "target_length": target.target_length,
                    "variance_percent": 100 * target.target_variance_share,
                    "examples": target.coverage.examples,
                    "seeds": target.coverage.seeds,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def targets_block(evidence: Evidence, task: str, styles: Styles) -> Block:
    """A heat map per method that mixes layers, their entropy by epoch, and a table of all targets."""
    targets = of_task(evidence.internals.targets, task, styles)
    if not targets:
        return Block("")
    mixtures = {
        name: target.mixture for name, target in targets.items() if target.mixture is not None
    }
    largest = (
        largest_weight(
            target.mixture
            for target in evidence.internals.targets.values()
            if target.mixture is not None
        )
        if mixtures
        else 0.0
    )
    panels = [_mixture_panel(method, mixture, largest) for method, mixture in mixtures.items()]
    trained_mixtures = {
        name: mixture for name, mixture in mixtures.items() if len(mixture.epochs) > 1
    }
    if trained_mixtures:
        panels.append(_entropy_panel(trained_mixtures, styles))
    columns: Columns = {
        "method": ("method", None),
        "student_layer": ("student layer", number(0)),
        "entropy": ("entropy, % of its maximum", _SPREAD),
        "target_length": ("length of the target", number(3)),
        "variance_percent": ("target varies between examples, %", number(2)),
        "examples": ("examples", number(0)),
        "seeds": ("runs", number(0)),
    }
    frame = targets_frame(targets)
    table = display.table("Targets of student layers after training", frame, columns, styles)
    return Block(evidence.task_label(task), panels=tuple(panels), tables=(table,))


def _mixture_panel(method: str, mixture: Mixture, largest: float) -> Panel:
    last_weights = mixture.weights[:, -1]
    top_teachers = last_weights.mean(axis=0).argmax(axis=1) + 1
    sd = spread(last_weights).sd
    alt = "; ".join(
        f"student layer {layer} has its largest weight on teacher layer {teacher}"
        for layer, teacher in enumerate(top_teachers, start=1)
    )
    if np.isfinite(sd).all():
        alt += f"; weights differ between runs by a standard deviation of at most {sd.max():.3f}"
    caption = f"{method}: mean weights, {coverage_text(mixture.coverage)}"
    return panel(
        caption,
        f"After epoch {mixture.epochs[-1]}: {alt}",
        mixture_figure(mixture, largest),
        weights_frame(mixture),
        choice=choice_of(
            "epoch", [str(e) for e in mixture.epochs], len(mixture.epochs) - 1, slider=True
        ),
        method=method,
    )


def _entropy_panel(mixtures: Mapping[str, Mixture], styles: Styles) -> Panel:
    frame = entropy_frame(mixtures)
    caption = "Entropy of the weights by epoch"
    rows = frame[frame["student_layer"] == ALL_LAYERS]
    alt = "; ".join(
        f"{method} goes from {means['mean'].iloc[0]:.1f} to {means['mean'].iloc[-1]:.1f} %"
        for method, means in by_method(rows)
    )
    layers = ["mean of all", *entropy_layers(frame)[1:]]
    return Panel(
        caption,
        f"{caption}, mean over student layers: {alt}.",
        entropy_figure(frame, styles),
        Numbers(frame),
        method_key(styles, mixtures),
        choice_of("student layers", layers, 0),
    )


def _entropy_text(mean: float, sd: float, low: float, high: float) -> str:
    if np.isnan(mean):
        return display.DASH
    return f"{mean:.1f}" if np.isnan(sd) else f"{mean:.1f} (sd {sd:.1f}, {low:.1f} to {high:.1f})"


_SPREAD = JointColumn(
    ("entropy_sd", "entropy_low", "entropy_high"),
    ("mean", "sd", "lowest", "highest"),
    _entropy_text,
)


SECTION = Section(
    anchor="targets",
    title="Looking inside: targets of student layers",
    reading=(
        "A mixture is a weighted sum of teacher layers. Each row is one student layer, and its weights "
        "sum to one: bright cells are the teacher layers that the student layer learns from. The slider "
        "goes through the epochs; 0 is before training."
    ),
    details=(
        "An entropy of 100 % means that all teacher layers have the same weight. Line: mean over "
        "report runs. Band: lowest to highest run. A learned target that hardly varies between "
        "examples has collapsed."
    ),
    maker=by_task(targets_block),
    reads_verdicts=False,
)
