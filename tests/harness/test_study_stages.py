"""`training.stages` in a command: an axis, a part of identities only where it is not the default.

The command is tracked: each run once, in the driver, whichever cells use the run.
"""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from harness.compose import compose_config
from harness.experiment.manifest import identity_of, students_in_words
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.storage.record import RUN_INPUTS
from harness.study import main
from tests.conftest import small_pools
from tests.records import run_inputs

SETTINGS = {"methods": ["kd"], "tasks": ["rte"]}


def test_the_default_is_no_part_of_identities() -> None:
    inputs = run_inputs()
    # The fingerprint of these inputs before there were stages.
    assert inputs.fingerprint == "8e3f5721a83e26a0479ace66428beadf3e33ec3e0ec384e1f3769bb9892d7391"
    staged = run_inputs(training={"stages": "layers-first:0.50"})
    assert "stages" not in inputs.plain()["training"]
    assert staged.plain()["training"]["stages"] == "layers-first:0.5"
    assert staged.fingerprint != inputs.fingerprint
    assert RUN_INPUTS.validate_python(inputs.plain()) == inputs
    configs = [
        compose_config(["preset=demo", *more], SETTINGS)
        for more in ([], ["training.stages=layers-fall"])
    ]
    assert "stages" not in identity_of(configs[0], None)["training"]
    assert identity_of(configs[1], None)["training"]["stages"] == "layers-fall:1"
    assert students_in_words(configs[1]) == (
        "4-layer students (skip layers of the pre-trained encoder), "
        "the weights of layer terms fall to 0 over the training"
    )


def test_stages_are_an_axis(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    axis = ("--vary", "training.stages=constant,layers-first:0.25")
    tracker = ("--track", "tensorboard") if find_spec("tensorboard") else ()
    words = small_pools(tmp_path, tiny_encoder, "--keep", "none", *axis, *tracker)
    assert main([*words, "--dry-run"]) == 0
    plan = capsys.readouterr()
    names = ["rte (stages=constant)", "rte (stages=layers-first:0.25)"]
    assert [part["task"] for part in json.loads(plan.out)["plan"]] == names
    assert "layer terms alone in the first 25 % of the steps" in plan.err
    assert main(words) == 0
    answer = json.loads(capsys.readouterr().out)
    assert "layer terms alone in the first 25 %" in Path(answer["report"]).read_text()
    ledger = Ledger(storage_url(tmp_path, None))
    studies = ledger.manifest(answer["ablation"]).studies
    runs = {
        (name, method): {
            use.record.fingerprint: use.record.inputs.training.stages
            for use in ledger.study_runs(study)
        }
        for name in names
        for method, study in studies[name].items()
    }
    ledger.close()
    constant, first = names
    assert runs[constant, "kd"] == runs[first, "kd"]  # it has no layer terms: trained once
    assert set(runs[constant, "alp"].values()) == {"constant"}
    assert set(runs[first, "alp"].values()) == {"layers-first:0.25"}
    assert not runs[constant, "alp"].keys() & runs[first, "alp"].keys()
    every = {fingerprint[:8] for part in runs.values() for fingerprint in part}
    assert len(every) == 12
    if tracker:
        assert main(words) == 0  # trains nothing, and so tracks nothing
        files = sorted((tmp_path / "tensorboard" / "demo-rte").rglob("events.*"))
        assert {file.parent.name.rpartition("-")[2] for file in files} == every
        assert len(files) == 2 * 12


def test_other_stages_are_refused_in_one_line(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(small_pools(tmp_path, tiny_encoder, "training.stages=layers-last")) == 2
    assert "error: training.stages: 'layers-last' is none of constant" in capsys.readouterr().err
