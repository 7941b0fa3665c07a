"""Run a study from Python, as `python -m harness.study` does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.api.ablation import Ablation
from harness.api.runs import Runs
from harness.cli.arguments import parser, read_request
from harness.cli.connection import connected
from harness.own_packages import refuse_shadows

Names = str | Sequence[str]


def run(
    methods: Names,
    tasks: Names,
    *,
    out: str | Path = "runs",
    preset: str = "auto",
    data: str | Path | None = None,
    transfer: str | Path | None = None,
    teacher: str | Path | None = None,
    student: str | Path | None = None,
    student_layers: int | str | None = None,
    vary: Sequence[str] = (),
    trials: int | str | None = None,
    max_trials: int | None = None,
    seeds: int | str | None = None,
    max_seeds: int | None = None,
    sampler: str | None = None,
    repeat_search: int | None = None,
    baseline: str | None = None,
    protocol: str | None = None,
    keep: str | None = None,
    export: str | None = None,
    track: str | None = None,
    workers: int | str | None = None,
    cluster: str | None = None,
    allow_weak_teacher: bool = False,
    latency: bool = False,
    overrides: Mapping[str, object] | None = None,
) -> Ablation:
    """Tune methods, train them, and compare them; returns the ablation when all runs are there.

    The parameters are the flags of `python -m harness.study`, and None is a flag's default. `methods`
    and `tasks` are names, or one text with commas; `baseline="none"` turns comparisons off. `overrides`
    are keys of the configuration: `{"training.epochs": 5}`. `student_layers="6,4,2"` and
    `vary=["KEY=V1,V2"]` are axes. Runs that the ledger of `out` has are not trained again, so the same
    call goes on where an interrupted one stopped. Progress is told on stderr.

    Raises:
        UserError: something that was given cannot be used; the message says what and why.
    """
    flags = {
        "method": _names(methods),
        "task": _names(tasks),
        "out": out,
        "preset": preset,
        "data": data,
        "transfer": transfer,
        "teacher": teacher,
        "student": student,
        "student-layers": student_layers,
        "trials": trials,
        "max-trials": max_trials,
        "seeds": seeds,
        "max-seeds": max_seeds,
        "sampler": sampler,
        "repeat-search": repeat_search,
        "baseline": baseline,
        "protocol": protocol,
        "keep": keep,
        "export": export,
        "track": track,
        "workers": workers,
        "cluster": cluster,
    }
    words = [f"--{name}={value}" for name, value in flags.items() if value is not None]
    words += [f"--vary={axis}" for axis in vary]
    words += ["--allow-weak-teacher"] if allow_weak_teacher else []
    words += ["--latency"] if latency else []
    words += [word for key, value in (overrides or {}).items() for word in _words(key, value)]
    refuse_shadows()
    request = read_request(parser().parse_intermixed_args(words))
    with connected(request) as opened:
        from harness.cli.command import study  # takes seconds; workers start meanwhile

        result, _ = study(request, words, opened)
    config = request.config
    return Runs(Path(config.out), config.storage).ablation(result.manifest.name)


def _names(names: Names) -> str:
    return names if isinstance(names, str) else ",".join(names)


def _words(key: str, value: object) -> Iterator[str]:
    """A value as overrides in Hydra's grammar. A mapping becomes an override for each of its keys."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _words(f"{key}.{name}", part)
    else:
        text = str(value) if isinstance(value, Path) else value
        yield f"{key}={json.dumps(text, ensure_ascii=False)}"
