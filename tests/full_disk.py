"""Run in a namespace of its own: studies on a small disk that fills up, is read-only, then has room.

`python -m tests.full_disk FOLDER ENCODER SIZE...` mounts a tmpfs of each size (KiB) at FOLDER and
prints one JSON list: for each size the exit codes and errors before and after there is room.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import shutil
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import harness.cli.command  # noqa: F401
import reports.report  # noqa: F401 - imported before the forks
from harness.study import main
from tests.conftest import small_study
from tests.killing import contents, files, result

ROOM = 64 * 1024


def _study(arguments: list[str], answer: Connection) -> None:
    printed, errors = io.StringIO(), io.StringIO()
    code: int | str
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
        try:
            code = main(arguments)
        except Exception as error:  # what the test must see
            code = f"{type(error).__name__}: {error}"
    answer.send((code, printed.getvalue(), errors.getvalue()))


def study(arguments: list[str]) -> tuple[Any, str, str]:
    """Exit code, stdout and stderr of the command in a fork."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_study, args=(arguments, theirs))
    process.start()
    theirs.close()
    try:
        found: tuple[Any, str, str] = ours.recv()
    except EOFError:
        process.join()
        found = (f"died with {process.exitcode}", "", "")
    process.join()
    return found


def mount(folder: Path, options: str) -> None:
    """A tmpfs with these options, or the one there with others."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)


def attempt(folder: Path, encoder: Path, size: int) -> dict[str, Any]:
    """A study on a disk of that size, and again when there is room."""
    mount(folder, f"size={size}k")
    arguments = small_study(folder / "runs", encoder, "--keep", "report", "threads=1")
    code, _, errors = study(arguments)
    left = sorted(name for name in files(folder) if "/." in name and not name.endswith(".lock"))
    subprocess.run(["mount", "-o", f"remount,size={ROOM}k", str(folder)], check=True)
    again, printed, later = study(arguments)
    found = {"size": size, "code": code, "errors": errors, "left": left, "again": again}
    if again == 0:
        used = shutil.disk_usage(folder).used // 1024
        found |= {"result": result(printed), "used": used, "files": sorted(files(folder))}
        found["contents"] = contents(folder / "runs")
    else:
        found["later"] = later
    subprocess.run(["umount", str(folder)], check=True)
    return found


def read_only(folder: Path, encoder: Path) -> dict[str, Any]:
    """A study in a folder that cannot be written."""
    mount(folder, f"size={ROOM}k")
    (folder / "runs").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    code, _, errors = study(small_study(folder / "runs", encoder))
    subprocess.run(["umount", str(folder)], check=True)
    return {"code": code, "errors": errors}


if __name__ == "__main__":
    place, start = Path(sys.argv[1]), Path(sys.argv[2])
    found = [attempt(place, start, int(size)) for size in sys.argv[3:]]
    print(json.dumps({"full": found, "read only": read_only(place, start)}))
