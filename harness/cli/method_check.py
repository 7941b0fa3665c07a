"""The answer to `--check-method`: a table of the rules that methods keep, and a line for each fault."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.table import Table

from harness.registry.check_table import check_table
from harness.registry.discovery import registry
from harness.runtime.output import AnswerConsole


def show_checks(names: Sequence[str], as_json: bool) -> bool:
    """Check methods and print tables, or JSON; returns whether the methods keep all rules."""
    tables = {name: check_table(registry().resolve(name)) for name in names}
    faults = [row.fault for rows in tables.values() for row in rows if row.fault is not None]
    if as_json:
        answer = {name: [asdict(row) for row in rows] for name, rows in tables.items()}
        print(json.dumps(answer))
        return not faults
    console = AnswerConsole(soft_wrap=True)
    if not console.is_terminal:
        console.width = 140
    for name, rows in tables.items():
        table = Table(title=name, title_justify="left")
        table.add_column("rule")
        table.add_column("kept")
        for row in rows:
            table.add_row(row.rule, "yes" if row.fault is None else "no")
        console.print(table)
    for fault in dict.fromkeys(faults):
        print(fault)
    return not faults
