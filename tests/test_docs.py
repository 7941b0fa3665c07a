"""What the documents show is executed."""

import csv
import json
import shlex
from pathlib import Path

import pytest

from harness.demo import generate
from harness.study import main

DOCS = Path(__file__).parents[1] / "docs"
SMALL = (
    "--trials 1 --seeds 1 --json --allow-weak-teacher teacher.epochs=1 training.epochs=1 "
    "student.layers=2 training.max_length=64 training.precision=fp32 threads=1"
)


def blocks(document: str) -> list[str]:
    """The indented blocks of a document."""
    found: list[list[str]] = [[]]
    for line in (DOCS / document).read_text().splitlines():
        if line.startswith("    "):
            found[-1].append(line[4:])
        elif found[-1]:
            found.append([])
    return ["\n".join(block) + "\n" for block in found if block]


def write_tables(folder: Path, task: str, label: str) -> None:
    for file, data in zip(("train", "dev"), generate(task).values(), strict=True):
        with (folder / f"{file}.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["question", label, "answer"])
            writer.writerows((a, y, b) for (a, b), y in zip(data.texts, data.labels, strict=True))


@pytest.mark.parametrize(
    ("block", "demo", "label", "metric"),
    [(0, "mrpc", "fits", "f1"), (2, "stsb", "similarity", "pearson")],
)
def test_the_tasks_of_the_document_run(
    tmp_path: Path,
    tiny_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    block: int,
    demo: str,
    label: str,
    metric: str,
) -> None:
    shown = blocks("custom-task.md")
    (tmp_path / "jobs.yaml").write_text(shown[block])
    write_tables(tmp_path, demo, label)
    monkeypatch.chdir(tmp_path)
    python, module, name, *flags = shlex.split(shown[1])
    assert (python, module, name) == ("python", "-m", "harness.study")
    small = [*SMALL.split(), f"teacher.pretrained={tiny_encoder}"]
    assert main([*flags, *small]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert [(r["task"], r["metric"]) for r in summary["results"]] == [("jobs", metric)] * 2
    assert Path(summary["report"]).is_file()
