"""A signal that ends the command is told as one, whatever a library in between makes of it."""

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from harness import study
from harness.cli import entrance
from harness.runtime import interrupt
from harness.runtime.failures import RunFailed, convert_failures

DEFAULTS = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}
CODES = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """The signals have Python's handlers, also in a shell's background, which ignores Ctrl-C."""
    before = {number: signal.signal(number, handler) for number, handler in DEFAULTS.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def _swallowed(number: int = signal.SIGINT) -> None:
    try:
        signal.raise_signal(number)
    except KeyboardInterrupt:
        raise ValueError("a library's own") from None


def _told_as_bad_input(number: int = signal.SIGINT) -> int:
    try:
        _swallowed(number)
    except ValueError:
        return entrance.BAD_INPUT
    return 0


@pytest.mark.parametrize("work", [signal.raise_signal, _swallowed, _told_as_bad_input])
@pytest.mark.parametrize(("number", "code"), CODES)
def test_it_is_told_as_what_it_is(
    work: Callable[[int], object],
    number: int,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(entrance, "run", lambda arguments: work(number))
    assert study.main([]) == code
    assert capsys.readouterr().err.splitlines() == [study.GO_ON]
    for each, handler in DEFAULTS.items():
        assert signal.getsignal(each) is handler


def test_a_terminal_that_fails_just_before_its_signal_is_told_as_the_signal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def write(arguments: object, closes: bool = True) -> int:
        if closes:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGHUP)).start()
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(entrance, "run", write)
    assert study.main([]) == 129
    monkeypatch.setattr(study, "SIGNAL_SECONDS", 0.01)
    monkeypatch.setattr(entrance, "run", lambda arguments: write(arguments, closes=False))
    with pytest.raises(OSError, match="Input/output error"):
        study.main([])


def test_the_first_of_two_signals_gives_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(arguments: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGHUP)

    monkeypatch.setattr(entrance, "run", run)
    assert study.main([]) == 143


@pytest.mark.parametrize("first", list(DEFAULTS))
def test_a_second_signal_does_not_break_off_the_end_but_a_second_ctrl_c_does(first: int) -> None:
    with interrupt.listen():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(first)
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert interrupt.first_signal() == first


def test_a_thread_that_is_not_the_main_one_sets_no_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrance, "run", lambda arguments: 7)
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(study.main([])))
    thread.start()
    thread.join()
    assert codes == [7]


def test_an_error_without_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrance, "run", lambda arguments: int("x"))
    with pytest.raises(ValueError, match="invalid literal"):
        study.main([])


def test_another_command_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrance, "run", lambda arguments: _told_as_bad_input())
    assert study.main([]) == study.INTERRUPTED
    monkeypatch.setattr(entrance, "run", lambda arguments: entrance.BAD_INPUT)
    assert study.main([]) == entrance.BAD_INPUT


def test_it_is_not_recorded_as_a_run_that_failed() -> None:
    with interrupt.listen(), pytest.raises(KeyboardInterrupt), convert_failures():
        _swallowed()
    with interrupt.listen(), pytest.raises(RunFailed), convert_failures():
        raise ValueError("its own")


def test_a_method_that_ends_the_process_is_a_run_that_failed() -> None:
    with pytest.raises(RunFailed, match=r"^SystemExit: 0 \(test_interrupt\.py"), convert_failures():
        sys.exit(0)


@pytest.mark.parametrize("number", list(DEFAULTS))
def test_a_handler_of_someone_else_is_left_alone(number: int) -> None:
    """As `nohup` does with SIGHUP, and a shell's background with Ctrl-C."""
    signal.signal(number, signal.SIG_IGN)
    with interrupt.listen():
        signal.raise_signal(number)
        assert interrupt.first_signal() is None
    assert signal.getsignal(number) is signal.SIG_IGN
