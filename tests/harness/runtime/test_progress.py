"""Progress on stderr: plain lines in a file, a live line in a terminal."""

import io
from contextlib import redirect_stderr
from types import SimpleNamespace

import pytest

from harness.runtime.progress import PLAIN_SECONDS, progress, say


class Clock:
    """A clock that stands still until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("harness.runtime.progress.time", SimpleNamespace(monotonic=made))
    monkeypatch.setattr("rich.console.monotonic", made)
    return made


def test_what_is_said_is_a_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say("a warning")
    assert capsys.readouterr() == ("", "a warning\n")


def test_control_characters_are_spelled(capsys: pytest.CaptureFixture[str]) -> None:
    """A method's error may have any text; half a pair of surrogates is spelled by stderr itself."""
    say("a nul \0, an escape \x1b[2J, a return \r, a tab \t, ü\nand a second line")
    said = "a nul \\x00, an escape \\x1b[2J, a return \\x0d, a tab \t, ü\nand a second line\n"
    assert capsys.readouterr().err == said


def test_elsewhere_lines_say_what_is_done_and_how_long_the_rest_takes(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("rte: search", 40) as advance:
        clock.now += PLAIN_SECONDS
        advance(10)
        assert capsys.readouterr().err == "rte: search: 10/40 steps, 30 s left\n"
        clock.now += 2 * PLAIN_SECONDS
        advance(2)
        assert capsys.readouterr().err == "rte: search: 12/40 steps, 70 s left\n"
        clock.now += 2.5
        advance(28)
    assert capsys.readouterr() == ("", "rte: search: 40 steps in 32.5 s\n")


def test_elsewhere_lines_are_seconds_apart(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("rte: search", 1000) as advance:
        for _ in range(99):
            clock.now += PLAIN_SECONDS / 10
            advance(1)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines[:-1]] == [
        f"rte: search: {done}/1000 steps" for done in range(10, 99, 10)
    ]
    assert lines[-1] == "rte: search: 99 steps in 99.0 s"


def test_elsewhere_nothing_is_said_to_have_ended_that_was_stopped(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped() -> None:
        with progress("rte: search", 40) as advance:
            advance(10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert capsys.readouterr().err == ""


def test_a_terminal_has_a_live_line_that_leaves_nothing(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with redirect_stderr(Terminal()) as terminal, progress("rte: search", 40) as advance:
        for _ in range(2):
            clock.now += PLAIN_SECONDS
            advance(10)
    shown = terminal.getvalue()
    for part in ("rte: search", "20/40", "0:00:20"):
        assert part in shown
    assert "steps" not in shown
    assert shown.endswith("\x1b[1A\x1b[2K")  # up, and the line away
