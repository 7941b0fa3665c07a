import pandas as pd
import pytest

from reports.kit.palette import method_styles
from reports.sections.losses import loss_figure, loss_terms


@pytest.mark.parametrize(("last", "kind"), [(9.0, None), (11.0, "log")])
def test_terms_that_lie_far_apart_have_a_logarithmic_scale(last, kind):
    names = ["method", "epoch", "mean", "low", "high", "seeds"]
    rows = [("kd", 1, 1.0, 0.5, 2.0, 2), ("alp", 1, 1.0, 0.5, 2.0, 2), ("pkd", 1, last, 8, 12, 2)]
    styles = method_styles(["kd", "alp", "pkd"])
    frame = pd.DataFrame(rows, columns=names)
    assert loss_figure(frame, styles).to_figure().layout.yaxis.type == kind
    with_zero = frame.assign(low=[0.0, 0.5, 8.0])
    assert loss_figure(with_zero, styles).to_figure().layout.yaxis.type is None


def test_loss_terms_are_mean_least_and_greatest_over_seeds(evidence):
    frame = loss_terms(evidence.results("rte"))
    chosen = frame[(frame["method"] == "alp") & (frame["term"] == "label")]
    assert chosen[["epoch", "mean", "low", "high", "seeds"]].to_numpy().tolist() == [
        [1, 2, 1, 3, 3],
        [2, 0.5, 0.5, 0.5, 3],
    ]
