"""What layers are matched to: mixtures of teacher layers by epoch, and a table of all targets."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from harness.analysis.inside import Mixture, Targets
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
    mixture_figure,
    spread,
    weights_frame,
)


def targets_frame(targets: Mapping[str, Targets]) -> pd.DataFrame:
    """One row per method and student layer (from 1): what it was matched to after training.

    Entropy and its spread between seeds (NaN where nothing is mixed) and the variance share in percent,
    and of how many examples and seeds all this is.
    """
    parts = []
    for method, target in targets.items():
        layers = len(target.target_length)
        entropy = np.full((target.seen.seeds, layers), np.nan)
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
                    "examples": target.seen.examples,
                    "seeds": target.seen.seeds,
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
    panels = [_mixture_panel(method, mixture) for method, mixture in mixtures.items()]
    trained = {name: mixture for name, mixture in mixtures.items() if len(mixture.epochs) > 1}
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
    frame = targets_frame(targets)
    table = display.table("What student layers are matched to", frame, columns, styles)
    return Block(evidence.task_label(task), panels=tuple(panels), tables=(table,))


def _mixture_panel(method: str, mixture: Mixture) -> Panel:
    last = mixture.weights[:, -1]
    most = last.mean(axis=0).argmax(axis=1) + 1
    sd = spread(last).sd
    alt = "; ".join(
        f"student layer {layer} looks most at teacher layer {teacher}"
        for layer, teacher in enumerate(most, start=1)
    )
    if np.isfinite(sd).all():
        alt += f"; weights differ between seeds by a standard deviation of at most {sd.max():.3f}"
    caption = f"{method}: mean weights, {coverage_text(mixture.seen)}"
    return panel(
        caption,
        f"After epoch {mixture.epochs[-1]}: {alt}",
        mixture_figure(mixture),
        weights_frame(mixture),
        choice=choice_of(
            "epoch", [str(e) for e in mixture.epochs], len(mixture.epochs) - 1, slider=True
        ),
    )


def _entropy_panel(mixtures: Mapping[str, Mixture], styles: Styles) -> Panel:
    frame = entropy_frame(mixtures)
    caption = "Entropy of the weights by epoch"
    rows = frame[frame["student_layer"] == ALL_LAYERS]
    alt = "; ".join(
        f"{method} goes from {means['mean'].iloc[0]:.1f} to {means['mean'].iloc[-1]:.1f} %"
        for method, means in by_method(rows)
    )
    layers = ["all, their mean", *entropy_layers(frame)[1:]]
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
    title="Looking inside: what layers are matched to",
    reading=(
        "Mixtures of teacher layers: each row is one student layer and sums to one; bright "
        "cells are the teacher layers it learns from. The slider goes through the epochs, 0 "
        "being before training."
    ),
    details=(
        "Entropy: 100 % means all teacher layers alike; band: least to greatest seed. A learned"
        " target that hardly varies between examples has collapsed."
    ),
    maker=by_task(targets_block),
)
