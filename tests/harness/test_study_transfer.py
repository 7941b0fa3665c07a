"""`--transfer` in a command: counts, identities, refusals, and the same texts for all methods."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.demo import examples
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.storage.manifest import Manifest
from harness.storage.record import Record
from harness.study import main
from tests.conftest import small_pools


def write_texts(path: Path, rows: int) -> Path:
    """Pairs of the demo's training split, whose second texts have changed places."""
    texts = examples.generate("rte")["train"].texts[:rows]
    pairs = zip(texts, [*texts[1:], texts[0]], strict=True)
    lines = [f"{first}\t{second}" for (first, _), (_, second) in pairs]
    path.write_text("\n".join(["sentence1\tsentence2", *lines]) + "\n")
    return path


def read(out: Path, ablation: str) -> tuple[Manifest, list[Record]]:
    ledger = Ledger(storage_url(out, None))
    manifest = ledger.manifest(ablation)
    records = [use.record for study in manifest.study_names for use in ledger.study_runs(study)]
    ledger.close()
    return manifest, records


def test_students_of_all_methods_are_distilled_from_the_same_unlabelled_texts(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = write_texts(tmp_path / "texts.tsv", 240), tmp_path / "runs"
    # `dkd` is left out by name: it reads labels.
    more = ("--method", "alp,dkd", "--transfer", str(file), "transfer.ratio=0.2")
    words = small_pools(out, tiny_encoder, *more)

    def answer(arguments: list[str]) -> tuple[dict[str, Any], str]:
        capsys.readouterr()
        assert main(arguments) == 0
        found = capsys.readouterr()
        return json.loads(found.out), found.err

    plan, errors = answer([*words, "--dry-run"])
    (task,) = plan["plan"]
    texts = round(0.2 * task["train_examples"])
    assert task["unlabelled_texts"] == texts
    steps = -(-(task["train_examples"] + texts) // 64)
    assert task["student_steps"] == 2 * 4 * steps
    assert f"and {texts} unlabelled texts for students of all methods" in errors
    assert list(task["left_out"]) == ["dkd"]

    result, errors = answer(words)
    assert "dkd on rte is left out: dkd reads labels in its own terms" in errors
    assert "of transfer" in errors  # the shares of cut examples and unknown tokens
    manifest, records = read(out, result["ablation"])
    facts = manifest.tasks["rte"]
    assert (facts.sizes["transfer"], facts.unlabelled) == (texts, texts)
    assert facts.splits["transfer"].examples == texts
    assert {record.inputs.transfer for record in records} == {facts.sha256["transfer"]}
    assert {record.status for record in records} == {"complete"}
    assert len(records) == 8
    page = Path(result["report"]).read_text()
    assert f"rte: {texts}, 0.2 for each training example (the same for all methods" in page
    (card, *_) = out.glob("students/*/*/README.md")
    assert (
        "was distilled from the texts of `transfer` too, without labels: 0.2 for"
        in card.read_text()
    )

    capsys.readouterr()
    assert main(["--replay", records[0].fingerprint, "--out", str(out)]) == 0
    other, _ = answer([*words[:-1], "transfer.ratio=0.3"])
    assert other["ablation"] != result["ablation"]
    _, others = read(out, other["ablation"])
    assert len(others) == 8
    assert not {r.fingerprint for r in others} & {r.fingerprint for r in records}


def test_texts_that_cannot_be_read_end_the_command_in_one_line(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    for words, expected in (
        (("--transfer", str(tmp_path / "none.tsv")), "none.tsv: cannot be read"),
        (("--transfer", ""), "--transfer: is empty"),
        (("transfer.ratio=2",), "transfer.ratio=2 mixes unlabelled texts"),
        (("--transfer", "x", "--vary", "transfer.ratio=1,2"), "cannot be an axis"),
    ):
        assert main(small_pools(out, tiny_encoder, *words)) == 2
        assert expected in capsys.readouterr().err
