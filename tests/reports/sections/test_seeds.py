from dataclasses import replace

import pytest

from reports.kit.palette import method_styles
from reports.sections.seeds import metrics_table, pairs_figure, seed_pairs
from tests.manifests import manifest

STYLES = method_styles(["finetune", "alp"])


def test_pairs_join_runs_of_the_same_seed(evidence):
    pairs = seed_pairs(evidence, "rte")
    assert pairs["seed"].tolist() == [100, 101, 102]
    assert pairs["method_points"].tolist() == pytest.approx([90, 80, 90])
    assert pairs["baseline_points"].tolist() == pytest.approx([80, 70, 60])
    assert pairs["difference"].tolist() == pytest.approx([10, 10, 30])
    lines = pairs_figure(pairs, STYLES, "accuracy").to_figure().data[0]
    assert lines.x == (0.0, 1.0, None) * 3
    assert [y for y in lines.y if y is not None] == pytest.approx([80, 90, 70, 80, 60, 90])


def test_a_mean_over_trials_does_not_stand_beside_a_tuned_score(scribe, evidence):
    assert metrics_table(evidence, "rte")["f1"].tolist() == pytest.approx([35, 130 / 3])
    config = {**scribe.manifest["config"], "protocol": {"unit": "methods", "budget": 1}}
    result = replace(evidence.result, manifest=manifest(**scribe.manifest | {"config": config}))
    assert metrics_table(replace(evidence, result=result), "rte").empty
