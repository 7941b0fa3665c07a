"""Optuna's studies, copied from memory into a database in bulk. Optuna writes one trial at a time."""

from __future__ import annotations

from collections.abc import Iterable

import optuna
from optuna.distributions import distribution_to_json
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy import Connection, MetaData, Table, func, select


def copy_studies(source: InMemoryStorage, target: RDBStorage) -> None:
    """Write all studies of `source` into `target`, which has none of these names."""
    tables = MetaData()
    tables.reflect(target.engine, only=("studies", "trials", "trial_params", "trial_values"))
    for name in optuna.get_all_study_names(source):
        study = optuna.load_study(study_name=name, storage=source)
        optuna.create_study(storage=target, study_name=name, direction="maximize")
        with target.engine.begin() as connection:
            _write(connection, tables, name, study.get_trials(deepcopy=False))


def _write(
    connection: Connection, tables: MetaData, study: str, trials: Iterable[FrozenTrial]
) -> None:
    studies, table = tables.tables["studies"], tables.tables["trials"]
    query = select(studies.c.study_id).where(studies.c.study_name == study)
    study_id = connection.scalar(query)
    first = _next(connection, table, "trial_id")
    rows, params, values = [], [], []
    for trial in trials:
        trial_id = first + trial.number
        rows.append(
            {
                "trial_id": trial_id,
                "number": trial.number,
                "study_id": study_id,
                "state": trial.state.name,
                "datetime_start": trial.datetime_start,
                "datetime_complete": trial.datetime_complete,
            }
        )
        params += [
            {
                "trial_id": trial_id,
                "param_name": name,
                "param_value": trial.distributions[name].to_internal_repr(value),
                "distribution_json": distribution_to_json(trial.distributions[name]),
            }
            for name, value in trial.params.items()
        ]
        if trial.value is not None:
            value_row = {"trial_id": trial_id, "objective": 0, "value": trial.value}
            values.append(value_row | {"value_type": "FINITE"})
    for name, table_rows in (("trials", rows), ("trial_params", params), ("trial_values", values)):
        if table_rows:
            connection.execute(tables.tables[name].insert(), table_rows)


def _next(connection: Connection, table: Table, key: str) -> int:
    return 1 + (connection.scalar(select(func.max(table.c[key]))) or 0)
