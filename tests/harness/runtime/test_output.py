"""Commands whose stdout or stderr lacks characters, is full or is closed."""

import gc
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from harness import power
from harness.runtime.output import CLOSED, UNPRINTED, exit_code, leave, printing, settle_streams
from harness.runtime.progress import say
from harness.study import main
from reports import build
from tests.conftest import small_study

ROOT = Path(__file__).parents[3]
PLAN = ["--sd", "0.016", "--budget", "4"]


@pytest.fixture
def full() -> Iterator[TextIO]:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("w", encoding="utf-8") as stream:
        yield stream


def ascii_stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)


def text_of(stream: io.TextIOWrapper) -> str:
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode("ascii")


def test_characters_that_stdout_lacks_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = ascii_stream(), ascii_stream()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    settle_streams()
    with printing():
        print("84.6 ± 1.2 \udcff")
    say("mnli–mm")
    assert text_of(out) == "84.6 \\xb1 1.2 \\udcff\n"
    assert text_of(err) == "mnli\\u2013mm\n"


def test_a_users_own_handler_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace", write_through=True)
    monkeypatch.setattr(sys, "stdout", out)
    settle_streams()
    print("±")
    assert text_of(out) == "?\n"


def test_a_command_leaves_its_objects_to_the_end_of_the_process() -> None:
    before = gc.get_freeze_count()
    try:
        with pytest.raises(SystemExit) as end:
            leave(3)
        frozen = gc.get_freeze_count()
    finally:
        gc.unfreeze()
    assert end.value.code == 3
    assert frozen > before


def test_a_full_stdout_ends_a_command_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], full: TextIO
) -> None:
    monkeypatch.setattr(sys, "stdout", full)
    assert power.main(PLAN) == UNPRINTED
    assert capsys.readouterr().err == (
        "error: stdout cannot be written (No space left on device)\n"
    )
    full.flush()  # Python flushes once more when it ends


def test_a_full_stderr_loses_lines_and_no_work(
    monkeypatch: pytest.MonkeyPatch, full: TextIO
) -> None:
    monkeypatch.setattr(sys, "stderr", full)
    say("first")
    say("second")
    full.flush()


def test_a_reader_that_has_gone_ends_every_command(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert power.main(PLAN) == CLOSED


def test_a_closed_stream_leads_nowhere_and_takes_no_files_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)

    def command() -> int:
        say("not a line of stdout")
        with printing():
            print("an answer")
        return 7

    assert exit_code(command) == 7
    for stream in (sys.stdout, sys.stderr):
        assert stream.name == os.devnull
        stream.close()


@pytest.mark.slow
def test_a_study_says_where_its_report_lies(
    tmp_path: Path,
    tiny_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    full: TextIO,
) -> None:
    """The work of both commands is done; the second one only prints."""
    arguments = small_study(tmp_path / "runs", tiny_encoder)
    monkeypatch.setattr(sys, "stdout", full)
    assert main(arguments) == UNPRINTED
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: stdout cannot be written (No space left on device); the work is")
    report = Path(said.rpartition("report: ")[2])
    assert report.is_file()
    out = ascii_stream()
    monkeypatch.setattr(sys, "stdout", out)
    assert main([word for word in arguments if word != "--json"]) == 0
    assert "\\xb1" in text_of(out)
    assert f"report: {report}" in text_of(out)
    out = ascii_stream()
    monkeypatch.setattr(sys, "stdout", out)
    assert build.main([str(tmp_path / "runs")]) == 0
    assert str(report) in text_of(out)


@pytest.mark.parametrize(
    "module",
    ["harness.study --list tasks", "harness.study --check-method kd", "harness.power --sd 0.016"],
)
def test_a_process_ends_with_one_line(module: str, full: TextIO) -> None:
    command = [sys.executable, "-m", *module.split()]
    done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    assert done.returncode == UNPRINTED
    assert done.stderr.decode().splitlines() == [
        "error: stdout cannot be written (No space left on device)"
    ]
