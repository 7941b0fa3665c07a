"""Ctrl-C is Ctrl-C, whatever a library in between makes of it."""

import signal
from collections.abc import Callable, Iterator

import pytest

from harness import study
from harness.cli import command
from harness.runtime import interrupt
from harness.runtime.failures import RunFailed, convert_failures


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Ctrl-C raises, also where the tests run in a shell's background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _swallowed() -> None:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise ValueError("a library's own") from None


def _told_as_bad_input() -> int:
    try:
        _swallowed()
    except ValueError:
        return command.BAD_INPUT
    return 0


@pytest.mark.parametrize(
    "work", [lambda: signal.raise_signal(signal.SIGINT), _swallowed, _told_as_bad_input]
)
def test_it_is_told_as_what_it_is(
    work: Callable[[], object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "run", lambda arguments: work())
    before = signal.getsignal(signal.SIGINT)
    assert study.main([]) == study.INTERRUPTED
    assert capsys.readouterr().err.splitlines() == [study.GO_ON]
    assert signal.getsignal(signal.SIGINT) is before


def test_an_error_without_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "run", lambda arguments: int("x"))
    with pytest.raises(ValueError, match="invalid literal"):
        study.main([])


def test_another_command_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "run", lambda arguments: _told_as_bad_input())
    assert study.main([]) == study.INTERRUPTED
    monkeypatch.setattr(command, "run", lambda arguments: command.BAD_INPUT)
    assert study.main([]) == command.BAD_INPUT


def test_it_is_not_recorded_as_a_run_that_failed() -> None:
    with interrupt.listen(), pytest.raises(KeyboardInterrupt), convert_failures():
        _swallowed()
    with interrupt.listen(), pytest.raises(RunFailed), convert_failures():
        raise ValueError("its own")


def test_a_handler_of_someone_else_is_left_alone() -> None:
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupt.listen():
            signal.raise_signal(signal.SIGINT)
            assert interrupt.first_signal() is None
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, usual)
