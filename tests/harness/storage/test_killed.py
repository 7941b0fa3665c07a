"""Killed anywhere, interrupted, several at once: a study ends as an undisturbed one does."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from harness.study import GO_ON
from tests.conftest import small_study
from tests.killing import IN_TRAINING, Study, contents, files, result

KILLS_BY_MOMENT, KILLS_BY_CLOCK = 24, 8
MORE = ("--keep", "report", "--trials", "5", "--seeds", "3")


class Undisturbed:
    """A study that nothing happened to, and how long it took."""

    def __init__(self, folder: Path, encoder: Path) -> None:
        self.encoder = encoder
        self.out = folder / "runs"
        started = time.monotonic()
        study = Study(small_study(self.out, encoder, *MORE), self.out, folder / "notes")
        study.join()
        self.seconds = time.monotonic() - started
        answer = study.answer()
        assert answer["code"] == 0
        self.moments = int(answer["moments"])
        self.result = result(answer["printed"])
        self.contents = contents(self.out)
        self.files = files(self.out)
        self.writes = sorted(study.writes())

    def equals(self, out: Path, last: Study) -> None:
        answer = last.answer()
        assert answer["code"] == 0
        assert result(answer["printed"]) == self.result
        assert contents(out) == self.contents
        assert files(out) == self.files
        written = sorted(last.writes())
        # A process may die between a run's commit and its note here.
        assert len(set(written)) == len(written)
        assert set(written) <= set(self.writes)


@pytest.fixture(scope="module")
def undisturbed(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return Undisturbed(tmp_path_factory.mktemp("undisturbed"), tiny_encoder)


def test_the_undisturbed_study_leaves_no_temporary_file(undisturbed: Undisturbed) -> None:
    assert len(undisturbed.contents["runs"]) == len(undisturbed.writes) == 2 * (5 + 3)
    assert undisturbed.contents["claims"] == []
    hidden = {name for name in undisturbed.files if Path(name).name.startswith(".")}
    assert all(name.endswith(".lock") for name in hidden)
    assert not {name for name in undisturbed.files if "-wal" in name or "-shm" in name}
    assert undisturbed.moments > 100


@pytest.mark.slow
@pytest.mark.parametrize("how", ["moment", "clock"])
def test_killed_anywhere_it_ends_the_same(
    undisturbed: Undisturbed, tmp_path: Path, how: str
) -> None:
    rng = np.random.default_rng(0 if how == "moment" else 1)
    # First while the report is written, which takes a few moments of hundreds.
    chosen = list(range(undisturbed.moments - 8, undisturbed.moments, 2))
    kills, studies = 0, 0
    while kills < (KILLS_BY_MOMENT if how == "moment" else KILLS_BY_CLOCK):
        out, notes = tmp_path / f"runs-{studies}", tmp_path / f"notes-{studies}"
        given = small_study(out, undisturbed.encoder, *MORE)
        studies += 1
        ended = False
        while not ended:
            deadly = 0
            if how == "moment":
                deadly = chosen.pop() if chosen else int(rng.integers(1, undisturbed.moments))
            study = Study(given, out, notes, deadly)
            if how == "clock" and not study.join(rng.uniform(0, undisturbed.seconds)):
                study.kill()
            study.join()
            kills += study.killed
            ended = not study.killed
        undisturbed.equals(out, study)


@pytest.mark.slow
@pytest.mark.parametrize("commands", [2, 4])
def test_commands_on_one_folder_share_the_work(
    undisturbed: Undisturbed, tmp_path: Path, commands: int
) -> None:
    out = tmp_path / "runs"
    given = small_study(out, undisturbed.encoder, *MORE)
    started = [Study(given, out, tmp_path / f"notes-{i}") for i in range(commands)]
    for study in started:
        study.join()
    for study in started:
        undisturbed.equals(out, study)
    written = [fingerprint for study in started for fingerprint in study.writes()]
    assert sorted(written) == undisturbed.writes


@pytest.mark.slow
def test_the_claims_of_a_killed_command_are_taken_over(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    given = small_study(out, undisturbed.encoder, *MORE)
    killed = Study(given, out, tmp_path / "killed", IN_TRAINING)
    killed.join()
    assert killed.killed
    # The runs of both methods' first round are claimed, and none is written.
    left = contents(out)
    assert len(left["claims"]) == 8
    assert left["runs"] == []
    others = [Study(given, out, tmp_path / f"notes-{i}") for i in range(2)]
    for study in others:
        study.join()
    for study in others:
        undisturbed.equals(out, study)


ENDINGS = [
    *((signal.SIGINT, moment) for moment in ("imports", "preset demo", "search")),
    *((signal.SIGTERM, moment) for moment in ("imports", "search")),
    (signal.SIGHUP, "search"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "moment"), ENDINGS)
def test_a_signal_ends_with_a_line_on_how_to_go_on(
    undisturbed: Undisturbed, tmp_path: Path, number: signal.Signals, moment: str
) -> None:
    if not Path("/proc").is_dir():
        pytest.skip("cannot see what a process has imported")
    out = tmp_path / "runs"
    given = small_study(out, undisturbed.encoder, *MORE, "--trials", "200")
    command = [sys.executable, "-m", "harness.study", *given]
    # A shell's background ignores Ctrl-C, and so would what it starts.
    before = signal.signal(number, signal.SIG_DFL)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    signal.signal(number, before)
    with process:
        assert process.stderr is not None
        told = ""
        if moment == "imports":
            while "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text():
                time.sleep(0.01)
        else:
            while moment not in told:
                told += process.stderr.readline()
        process.send_signal(number)
        asked = time.monotonic()
        told += process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    assert told.splitlines()[-1] == GO_ON
    assert "Traceback" not in told
    assert time.monotonic() - asked < 10  # a second or two; machines may be busy
    hidden = [path.name for path in out.rglob(".*")]
    assert all(name.endswith(".lock") for name in hidden)
    if moment == "search":
        assert contents(out)["claims"] == []


@pytest.mark.slow
@pytest.mark.parametrize("change", ["delete the ledger", "rename the folder", "delete the folder"])
def test_a_ledger_that_disappears_ends_the_command(
    undisturbed: Undisturbed, tmp_path: Path, change: str
) -> None:
    out = tmp_path / "runs"
    given = small_study(out, undisturbed.encoder, *MORE)
    study = Study(given, out, tmp_path / "notes")
    errors = tmp_path / "notes.err"
    while "search 1-4" not in (errors.read_text() if errors.exists() else ""):
        assert not study.join(0.02)
    if change == "delete the ledger":
        (out / "ledger.db").unlink()
    elif change == "rename the folder":
        out.rename(tmp_path / "elsewhere")
    else:
        shutil.rmtree(out, ignore_errors=True)
    study.join()
    assert study.answer()["code"] == 2
    (line,) = [line for line in errors.read_text().splitlines() if "ledger.db" in line]
    assert (
        line
        == f"error: ledger {out}/ledger.db: was deleted, moved or replaced while the command ran"
    )
    assert not (out / "ledger.db").exists()


CLOSED_TERMINAL = """
import os, pty, signal, sys
child, terminal = pty.fork()
if child == 0:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may ignore it, as nohup does
    os.execv(sys.argv[1], sys.argv[1:])
told = b""
while b"search" not in told:
    told += os.read(terminal, 4096)
os.close(terminal)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
def test_a_closed_terminal_gives_everything_back(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """SIGHUP comes, and nothing can be printed any more."""
    out = tmp_path / "runs"
    given = small_study(out, undisturbed.encoder, *MORE, "--trials", "200")
    command = [sys.executable, "-m", "harness.study", *given]
    watcher = [sys.executable, "-c", CLOSED_TERMINAL, *command]
    code = subprocess.run(watcher, check=True, stdout=subprocess.PIPE, timeout=120).stdout
    assert int(code) == 128 + signal.SIGHUP
    assert contents(out)["claims"] == []
