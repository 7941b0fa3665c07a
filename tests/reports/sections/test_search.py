import pytest

from reports.sections.search import settings_table


def test_settings_table_names_the_best_trial_and_its_setting(evidence):
    rows = settings_table(evidence.results("rte")).to_dict("records")
    assert rows[0]["method"] == "finetune"
    assert (rows[1]["best_trial"], rows[1]["trials"]) == (1, 2)
    assert rows[1]["points"] == pytest.approx(80)
    assert rows[1]["setting"] == "learning_rate = 0.0002"
