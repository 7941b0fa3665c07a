"""A worker without training: it asks trials, claims and writes runs, and tells scores.

`python -m tests.storage_worker URL` prints `READY` once the database has answered, and at its end the
numbers of the trials that it wrote.
"""

from __future__ import annotations

import sys
import time
from contextlib import closing

import numpy as np
from optuna.distributions import FloatDistribution

from harness.config import ROUND
from harness.experiment.search import Search, open_optuna
from harness.storage.claims import Claims
from harness.storage.ledger import Ledger
from harness.storage.record import Predictions, Result
from tests.manifests import STUDY
from tests.records import record

ROUNDS = 8
TRIALS = ROUNDS * ROUND
SECONDS = 0.05
"""What the training of a trial takes."""
READY = "ready"


def result(number: int, x: float) -> Result:
    """The result of a trial."""
    values = np.array([[x, 1 - x]], dtype=np.float32)
    predictions = Predictions(values, np.array([1.0]), np.array([number]))
    made = record(f"{number:064d}", x, inputs={"setting": {"x": x}})
    return Result(made, {"validation": predictions}, {"targets": {"x": x}})


def work(ledger: Ledger, claims: Claims, seconds: float = SECONDS) -> list[int]:
    """Ask, write and tell all trials of one study; returns those that this worker wrote."""
    written = []
    storage = open_optuna(ledger.url, claims)
    ledger.write_study("s", STUDY)
    search = Search(storage, "s", {"x": FloatDistribution(0.0, 1.0)}, "random", claims)
    for number in range(ROUNDS):
        for trial in search.round(number):
            key, x = f"{trial.number:064d}", float(trial.params["x"])
            while not ledger.records([key]):
                with claims.claim(key) as is_owner:
                    if is_owner and not ledger.records([key]):
                        time.sleep(seconds)
                        if ledger.write_runs([result(trial.number, x)]) == [True]:
                            written.append(trial.number)
            ledger.use_run("s", "search", trial.number, 1, key)
            search.tell(trial.number, x)
    storage.engine.dispose()
    return written


def main(url: str) -> None:
    """Work on the ledger at that URL."""
    with closing(Ledger(url)) as ledger, Claims(ledger) as claims:
        print(READY, flush=True)
        print(*work(ledger, claims))


if __name__ == "__main__":
    main(sys.argv[1])
