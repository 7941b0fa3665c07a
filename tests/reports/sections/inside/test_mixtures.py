import math

import numpy as np
import pytest

from harness.analysis.inspections import Coverage
from reports.sections.inside.mixtures import entropy_frame, spread, weights_frame
from tests.reports.conftest import ATTENTION, EPOCHS, looked_inside

KEY = ("rte", "alp")


def test_spread_is_over_the_first_axis():
    found = spread(np.array([[1.0, 2.0], [3.0, 2.0]]))
    assert found.mean.tolist() == [2, 2]
    assert found.sd.tolist() == pytest.approx([math.sqrt(2), 0])
    assert (found.low.tolist(), found.high.tolist()) == ([1, 2], [3, 2])
    assert np.isnan(spread(np.ones((1, 2))).sd).all()


def test_weights_and_entropy_of_every_epoch_with_their_spread_between_seeds(scribe):
    scribe.begin()
    other = EPOCHS | {
        "map": [*EPOCHS["map"][:2], [[0.25, 0.75, 0.0], [0.0, 0.5, 0.5]]],
        "entropy": [[0.9, 0.9], [0.6, 0.8], [0.7, 0.9]],
    }
    found = looked_inside(
        scribe, *({"targets": ATTENTION, "epochs": own} for own in (EPOCHS, other))
    ).internals.targets[KEY]
    assert found.mixture is not None
    assert (found.mixture.epochs, found.mixture.coverage) == (
        (0, 1, 2),
        Coverage("validation", 10, 2),
    )
    frame = weights_frame(found.mixture)
    assert frame.columns.tolist() == [
        "epoch", "statistic", "student_layer", "teacher 1", "teacher 2", "teacher 3",
    ]  # fmt: skip
    rows = {(e, name, layer): values for e, name, layer, *values in frame.to_numpy().tolist()}
    assert len(rows) == len(frame) == 2 * (3 + 3)
    assert rows[0, "mean", 1] == [0.5, 0.25, 0.25]
    assert rows[2, "mean", 1] == [0.5, 0.5, 0]
    assert rows[2, "sd", 1] == [0.354, 0.354, 0]
    assert rows[2, "lowest", 1] == [0.25, 0.25, 0]
    assert rows[2, "highest", 1] == [0.75, 0.75, 0]
    assert rows[2, "sd", 2] == [0, 0, 0]
    entropy = entropy_frame({"alp": found.mixture})
    shown = entropy.set_index(["student_layer", "epoch"])[["mean", "sd", "low", "high"]]
    assert shown.loc[("1", 2)].tolist() == [60, 14.1, 50, 70]
    assert shown.loc[("2", 1)].tolist() == [80, 0, 80, 80]
    assert shown.loc[("all", 2)].tolist() == [70, 14.1, 60, 80]
    assert entropy["seeds"].unique().tolist() == [2]


def test_only_epochs_that_every_run_was_looked_at_after_count(scribe):
    scribe.begin()
    less = EPOCHS | {name: EPOCHS[name][1:] for name in ("epochs", "map", "entropy")}
    found = looked_inside(
        scribe, *({"targets": ATTENTION, "epochs": own} for own in (EPOCHS, less))
    )
    mixture = found.internals.targets[KEY].mixture
    assert mixture is not None
    assert mixture.epochs == (1, 2)
    assert mixture.entropy.tolist() == [[[0.6, 0.8], [0.5, 0.7]]] * 2
