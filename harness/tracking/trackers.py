"""The trackers, one small class each, and the callback that the driver calls with finished runs."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Protocol

from harness.errors import UserError, first_line
from harness.extras import check_choice
from harness.runtime import interrupt
from harness.runtime.progress import say
from harness.tracking.tracked_run import TrackedRun


class Tracker(Protocol):
    """Where runs go. Libraries are imported when a tracker is made."""

    def log(self, run: TrackedRun) -> None:
        """Write one finished run."""


class MlflowTracker:
    """MLflow's tracking API: the server of `MLFLOW_TRACKING_URI`, or files in the runs folder."""

    MOST_METRICS = 1000
    """Metrics of a request."""

    def __init__(self, folder: Path) -> None:
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if uri is None:
            # MLflow wants to hear that files are meant, and not its own database.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            uri = (folder / "mlruns").absolute().as_uri()
        from mlflow.tracking import MlflowClient

        self.client: Any = MlflowClient(tracking_uri=uri)
        self._experiments: dict[str, str] = {}

    def log(self, run: TrackedRun) -> None:
        """Write a run of the experiment that is named by source and task."""
        from mlflow.entities import Metric, Param

        now = int(1000 * time.time())
        start = now - int(1000 * run.scores["seconds"])
        run_id = self.client.create_run(
            self._experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", run.project)),
            start_time=start,
            tags={"method": run.group},
            run_name=run.name,
        ).info.run_id
        metrics = [
            Metric(_mlflow_name(name), value, now, epoch)
            for epoch, means in enumerate(run.curves, start=1)
            for name, value in means.items()
        ]
        epochs = len(run.curves)
        metrics += [Metric(_mlflow_name(n), v, now, epochs) for n, v in run.scores.items()]
        params = [Param(_mlflow_name(name), str(v)) for name, v in run.parameters.items()]
        self.client.log_batch(run_id, params=params)
        for first in range(0, len(metrics), self.MOST_METRICS):
            self.client.log_batch(run_id, metrics=metrics[first : first + self.MOST_METRICS])
        self.client.set_terminated(run_id, "FAILED" if run.has_failed else "FINISHED", now)

    def _experiment(self, name: str) -> str:
        if name not in self._experiments:
            found = self.client.get_experiment_by_name(name)
            self._experiments[name] = (
                self.client.create_experiment(name) if found is None else found.experiment_id
            )
        return self._experiments[name]


def _mlflow_name(name: str) -> str:
    """A name with the characters that MLflow allows."""
    return re.sub(r"[^\w\-. /]", "_", name)


class TensorboardTracker:
    """TensorBoard's event files in the runs folder, one folder for each run, with its parameters."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter
        self.folder = folder / "tensorboard"

    def log(self, run: TrackedRun) -> None:
        """Write a run's scalars, and its parameters beside its scores."""
        folder = self.folder / run.project / run.name
        with self.writer(str(folder)) as writer:
            for epoch, means in enumerate(run.curves, start=1):
                for name, value in means.items():
                    writer.add_scalar(name, value, epoch)
            writer.add_hparams(
                dict(run.parameters), dict(run.scores), run_name=".", global_step=len(run.curves)
            )


class WandbTracker:
    """Weights & Biases, as its own environment variables say (`WANDB_MODE=offline` writes files)."""

    def __init__(self, folder: Path) -> None:
        import wandb

        self.wandb: Any = wandb
        self.folder = folder / "wandb"
        self.folder.mkdir(parents=True, exist_ok=True)

    def log(self, run: TrackedRun) -> None:
        """Write a run of the project that is named by source and task."""
        tracked = self.wandb.init(
            project=os.environ.get("WANDB_PROJECT", run.project),
            name=run.name,
            group=run.group,
            config=dict(run.parameters),
            dir=str(self.folder),
            settings=self.wandb.Settings(silent=True, console="off"),
        )
        for epoch, means in enumerate(run.curves, start=1):
            tracked.log(dict(means), step=epoch)
        tracked.summary.update(dict(run.scores))
        tracked.finish(exit_code=int(run.has_failed))


class TrackioTracker:
    """Trackio's local database, or the Space that its own environment variables name."""

    def __init__(self, folder: Path) -> None:
        import trackio

        self.trackio: Any = trackio

    def log(self, run: TrackedRun) -> None:
        """Write a run of the project that is named by source and task."""
        self.trackio.init(
            project=run.project, name=run.name, group=run.group, config=dict(run.parameters)
        )
        for epoch, means in enumerate(run.curves, start=1):
            self.trackio.log(dict(means), step=epoch)
        self.trackio.log(dict(run.scores), step=len(run.curves))
        self.trackio.finish()


_TRACKERS: dict[str, Callable[[Path], Tracker]] = {
    "mlflow": MlflowTracker,
    "wandb": WandbTracker,
    "tensorboard": TensorboardTracker,
    "trackio": TrackioTracker,
}
TRACKERS = tuple(_TRACKERS)
"""The trackers' names, which are those of their packages and of the extras that install them."""


def check_tracker(name: str | None) -> None:
    """Refuse an unknown or missing tracker. Raises `UserError`."""
    check_choice("--track", name, {tracker: (tracker,) for tracker in TRACKERS})


Track = Callable[[Sequence[TrackedRun]], None]
"""A callback that gets finished runs."""


@contextmanager
def tracking(name: str | None, folder: Path) -> Iterator[Track]:
    """A callback that writes finished runs to a tracker; without a name it does nothing.

    A tracker that fails is told once, and gets no more runs: the runs lie in the ledger.

    Raises:
        UserError: the tracker cannot be made.
    """
    if name is None:
        yield lambda runs: None
        return
    try:
        tracker: Tracker | None = _TRACKERS[name](folder)
    except Exception as error:  # libraries raise anything
        interrupt.check(error)
        raise UserError(f"--track {name}: {first_line(error)}") from error

    def track(runs: Sequence[TrackedRun]) -> None:
        nonlocal tracker
        if tracker is None:
            return
        try:
            with redirect_stdout(sys.stderr):  # stdout has the answer
                for run in runs:
                    tracker.log(run)
        except Exception as error:  # a server may fail in any way
            interrupt.check(error)
            say(f"warning: --track {name}: {first_line(error)}; no further run is tracked")
            tracker = None

    yield track
