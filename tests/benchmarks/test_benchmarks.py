"""The benchmarks run on a tiny size, and their numbers hang together. Nothing is timed here."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import big_task, first_screen, peers, scale, side_by_side, study
from benchmarks.workload import Workload
from tests.conftest import small_study


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    return dict(json.loads(capsys.readouterr().out.splitlines()[-1]))


SMALL = "--shape tiny --examples 64 --steps 2 --batch-size 8 --repeats 1 --threads 1 --json"


@pytest.mark.slow
def test_peers_do_the_same_work(capsys: pytest.CaptureFixture[str]) -> None:
    """It stops by itself unless all compute the same losses."""
    assert peers.main([*SMALL.split(), "--peers", "plain-dynamic"]) == 0
    rows = printed(capsys)["rows"]
    assert isinstance(rows, list)
    assert [row["name"] for row in rows] == ["this project", "plain loop, padded by batch"]
    assert rows[0]["ratio"] == 1.0
    assert all(row["examples_per_second"] > 0 and row["peak_mebibytes"] > 50 for row in rows)


@pytest.mark.slow
def test_textbrewer_does_the_same_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With logits that are far enough apart for a divergence to be more than rounding."""
    pytest.importorskip("textbrewer")
    real = peers.make_workload

    def sharpened(*given: object, **named: object) -> Workload:
        work = real(*given, **named)  # type: ignore[arg-type]
        work.teacher.classifier.weight.data *= 100
        return work

    monkeypatch.setattr(peers, "make_workload", sharpened)
    assert peers.main([*SMALL.split(), "--peers", "textbrewer,textbrewer-dynamic"]) == 0
    found = capsys.readouterr()
    assert "losses on one batch agree: plain, textbrewer" in found.err
    rows = json.loads(found.out.splitlines()[-1])["rows"]
    assert [row["name"] for row in rows] == [
        "this project",
        "TextBrewer, padded to 128",
        "TextBrewer, padded by batch",
    ]
    assert all(row["examples_per_second"] > 0 for row in rows)


@pytest.mark.slow
def test_a_plan_stands_beside_its_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--rows", "1200", "--trials", "1", "--folder", str(tmp_path), "--json"]
    assert big_task.main(small) == 0
    found = printed(capsys)
    assert len((tmp_path / "data" / "MNLI" / "train.tsv").read_text().splitlines()) == 1201
    assert found["rows"] == 1200
    measures = {row["name"]: row for row in found["measures"]}  # type: ignore[attr-defined]
    assert list(measures) == ["memory", "time", "disk"]
    for row in measures.values():
        assert row["ratio"] == row["plan"] / row["study"] > 0
    assert 0.7 < measures["memory"]["ratio"] < 1.3
    assert found["dry_run_peak"] > 2e8  # type: ignore[operator]
    assert big_task.main([*small, "--plan-only"]) == 0
    assert printed(capsys)["plan"]["train_examples"] == 1080  # type: ignore[index]


def test_peers_that_do_other_work_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = peers.plain_terms

    def wrong(*given: object) -> dict[str, torch.Tensor]:
        return {name: 1.01 * value for name, value in real(*given).items()}  # type: ignore[arg-type]

    monkeypatch.setattr(peers, "plain_terms", wrong)
    small = "--shape tiny --examples 16 --batch-size 8 --repeats 1 --threads 1"
    with pytest.raises(SystemExit, match="plain: label is"):
        peers.main([*small.split(), "--peers", "plain"])


def test_an_unknown_peer_is_refused() -> None:
    with pytest.raises(SystemExit, match="--peers: nobody is none of"):
        peers.main(["--peers", "nobody"])


def test_scale_counts_operations_by_member_and_layer(capsys: pytest.CaptureFixture[str]) -> None:
    small = "--shape tiny --batch-size 8 --steps 2 --members 1,2 --threads 1 --json"
    assert scale.main(small.split()) == 0
    rows = {row["label"]: row for row in printed(capsys)["rows"]}  # type: ignore[attr-defined]
    one, two = rows["1 members"], rows["2 members"]
    assert two["operations"] == 2 * one["operations"]
    assert two["trained"] == 2 * one["trained"]
    assert rows["4 layers"]["operations"] > rows["2 layers"]["operations"]
    (together,) = (label for label in rows if label.endswith(" methods"))
    number = int(together.split()[0])
    assert number > 20
    assert {f"{number} × alp", "batch × 2", "batch × 4"} <= rows.keys()


@pytest.mark.slow
def test_the_phases_of_a_study_are_all_of_its_time(
    tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = small_study(tmp_path, tiny_encoder)
    place = flags.index("--out")
    del flags[place : place + 2]
    flags.remove("--json")
    monkeypatch.setenv("PYTHONPATH", str(Path(sys.modules["harness"].__path__[0]).parent))
    rate = peers.plain_rate("tiny", threads=1)
    assert rate > 0
    found = study.measure(flags, plain_rate=10.0)
    assert sum(found["phases"].values()) == pytest.approx(found["seconds"])
    assert min(found["phases"].values()) >= 0.0
    assert found["examples"] == 8 * 700  # of one epoch each
    assert found["plain_loop_seconds"] == found["examples"] / 10


def test_ratios_are_of_medians_to_one_command_alone() -> None:
    rows = side_by_side.summarise({"alone": [10.0, 30.0, 12.0], "two": [18.0, 90.0, 15.0]})
    assert [row["seconds"] for row in rows] == [12.0, 18.0]
    assert [row["ratio"] for row in rows] == [1.0, 1.5]
    assert (rows[1]["lowest"], rows[1]["highest"]) == (15.0, 90.0)


@pytest.mark.slow
def test_commands_run_side_by_side(
    tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(sys.modules["harness"].__path__[0]).parent))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    flags = (*side_by_side.STUDY, *side_by_side.QUICK, "student.layers=2")
    seconds = side_by_side.measure((*flags, f"teacher.pretrained={tiny_encoder}"), 1)
    assert [len(values) for values in seconds.values()] == [1, 1, 1]
    assert all(value > 0 for (value,) in seconds.values())
    with pytest.raises(SystemExit, match=r"exit code 2: error: .*nonsense"):
        side_by_side.measure((*flags, "nonsense=1"), 1)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium")
def test_the_first_screen_of_a_report_is_a_picture(tmp_path: Path) -> None:
    report, picture = tmp_path / "report.html", tmp_path / "images" / "screen.png"
    report.write_text("<body style='background: #00f'>")
    assert first_screen.main([str(report), "--out", str(picture)]) == 0
    image = picture.read_bytes()
    assert image[:8] == b"\x89PNG\r\n\x1a\n"
    assert [int.from_bytes(image[start : start + 4]) for start in (16, 20)] == [1280, 800]
    assert first_screen.main([str(tmp_path / "none.html"), "--out", str(picture)]) == 2


def test_the_readmes_picture_is_small() -> None:
    assert first_screen.PICTURE.stat().st_size < 200_000
