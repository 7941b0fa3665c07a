"""Axes: the ablations of all cells in one flow, and the one manifest over them.

Each cell is searched and trained as a command with its values would be, so cells share what does not
depend on their values: teachers, teacher outputs, and runs with equal inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import combinations

from harness.axis_names import task_in_cell
from harness.data.splits import TaskData
from harness.errors import ConfigError, MethodError, NothingLeftError, UserError
from harness.experiment.ablation import Ablation, Design
from harness.experiment.flows import Flow, WaitRequest
from harness.experiment.manifest import (
    ablation_manifest,
    ablation_name,
    shown_config,
    students_in_words,
)
from harness.experiment.scheduler import Scheduler
from harness.experiment.speeds import with_earlier_timings
from harness.grid import Cell, axis_values
from harness.registry.discovery import chosen_methods
from harness.registry.space import check_names, space_of
from harness.storage.ledger import Ledger
from harness.storage.manifest import AxisContrast, CellFacts, Contrast, Grid, Manifest, Place
from harness.workers.prepared_task import PreparedTask


def check_cells(cells: Sequence[Cell], tasks: Mapping[str, TaskData]) -> None:
    """Check the search space of each method in each cell, before anything is prepared.

    Raises:
        ConfigError: a space cannot be narrowed as a cell says.
    """
    for cell in cells:
        search, methods = cell.config.search, chosen_methods(cell.config)
        try:
            check_names(methods, search)
            for data in tasks.values():
                for method in methods:
                    with suppress(MethodError):  # its cell leaves the method out, and says why
                        space_of(method, search, data.task.regression)
        except ConfigError as error:
            raise ConfigError(f"at {cell.name}: {error}") from error


@dataclass(frozen=True)
class _Part:
    """A cell with its ablation, and its design when that is known."""

    cell: Cell
    ablation: Ablation
    refusals: dict[str, str]

    @property
    def design(self) -> Design:
        return self.ablation.design.result()


class GridAblation:
    """The ablations of the cells of a command, which have one manifest."""

    def __init__(
        self, cells: Sequence[Cell], ledger: Ledger, command: str, refusals: Mapping[str, str]
    ) -> None:
        """`refusals` are the reasons against tasks in all cells."""
        self.cells = cells
        self.ledger = ledger
        self.command = command
        self.refusals = dict(refusals)
        self.name = ""
        self.prepared: dict[str, PreparedTask] = {}
        """The tasks that are not left out, by their names in the manifest, once it is written."""

    def flow(
        self,
        ablation: Callable[[Cell, int], Ablation],
        tasks: Mapping[str, TaskData],
        scheduler: Scheduler,
    ) -> Flow:
        """Begin all cells, and write the manifest when the last task of the last cell is prepared.

        No run waits for another cell. `ablation` makes the ablation of a cell from the cell and its
        number.

        Raises:
            NothingLeftError: every task is refused in every cell.
        """
        parts = [_Part(cell, ablation(cell, number), {}) for number, cell in enumerate(self.cells)]
        flows = [part.ablation.task_flows(tasks, part.refusals, scheduler) for part in parts]
        for task in tasks:  # all cells of a task in a row: a worker holds few tasks at a time
            for cell_flows in flows:
                if task in cell_flows:
                    scheduler.start(cell_flows[task])
        for part in parts:
            yield WaitRequest(part.ablation.design)
        manifest = with_earlier_timings(self.ledger, self._manifest(parts))
        for part in parts:
            self.prepared |= part.ablation.prepared
            part.ablation.write_texts(part.design)
        self.ledger.write_ablation(manifest)
        for part in parts:
            part.ablation.manifest.set_result(
                replace(manifest, config=shown_config(part.cell.config))
            )

    def _manifest(self, parts: Sequence[_Part]) -> Manifest:
        """The manifest of the whole: every task in every cell has the facts of its cell."""
        for part in parts:
            self.refusals |= part.design.sorted_refusals(list(part.cell.config.tasks))
        parts = [part for part in parts if part.design.tasks]
        if not parts:
            raise NothingLeftError("; ".join(dict.fromkeys(self.refusals.values())))
        studies = {
            task_in_cell(task, part.cell.name): part.design.studies[task]
            for task in self.cells[0].config.tasks
            for part in parts
            if task in part.design.tasks
        }
        _check_that_cells_differ(studies)
        self.name = grid_name(self.cells, studies)
        manifests = [
            ablation_manifest(
                part.cell.config,
                self.ledger,
                self.name,
                part.design.studies,
                part.design.tasks,
                {},
                part.ablation.unused_studies,
                command=self.command,
                repeat=None,
            )
            for part in parts
        ]
        return joint_grid([part.cell for part in parts], manifests, studies, self.refusals)


def grid_name(cells: Sequence[Cell], studies: Mapping[str, Mapping[str, str]]) -> str:
    """The name of an ablation with axes. Its fingerprint covers the studies of all cells."""
    config = cells[0].config
    stem, _, digits = ablation_name(config, studies, None).rpartition("-")
    return f"{stem}-{len(cells)}-cells-{digits}"


def _check_that_cells_differ(studies: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse cells in which the axis changes nothing. Raises `UserError`."""
    cells_by_study: dict[str, str] = {}
    for subject, methods in studies.items():
        for method, study in methods.items():
            other = cells_by_study.setdefault(study, subject)
            if other != subject:
                raise UserError(f"{method} is the same in {other} and {subject}: nothing differs")


def joint_grid(
    cells: Sequence[Cell],
    manifests: Sequence[Manifest],
    studies: Mapping[str, Mapping[str, str]],
    refusals: Mapping[str, str],
) -> Manifest:
    """One manifest over cells, from the `manifests` of all cells that could be trained.

    `studies` are the names of studies by task in a cell, and by method.
    """
    first = manifests[0]
    parts = {
        task_in_cell(task, cell.name): (cell, task, manifest)
        for cell, manifest in zip(cells, manifests, strict=True)
        for task in manifest.studies
    }
    family = tuple(
        Contrast(subject, method, baseline)
        for subject, (_, task, manifest) in _in_order(parts, studies)
        for _, method, baseline in manifest.family_on(task)
    )
    words = dict.fromkeys(students_in_words(cell.config) for cell in cells)
    requests = max((manifest.seed_requests for manifest in manifests), key=len)
    return replace(
        first,
        students="; ".join(words),
        banners=tuple(dict.fromkeys(text for part in manifests for text in part.banners)),
        tasks={
            subject: manifest.tasks[task]
            for subject, (_, task, manifest) in _in_order(parts, studies)
        },
        teachers={
            subject: manifest.teachers[task]
            for subject, (_, task, manifest) in _in_order(parts, studies)
        },
        studies=studies,
        compression={
            subject: manifest.compression[task]
            for subject, (_, task, manifest) in _in_order(parts, studies)
            if task in manifest.compression
        },
        family=family,
        random_trials=min(manifest.random_trials for manifest in manifests),
        seed_requests=requests,
        refused=dict(refusals),
        grid=Grid(
            axes={key: axis_values(key, cells) for key in cells[0].values},
            cells={cell.name: CellFacts(cell.values, shown_config(cell.config)) for cell in cells},
            places={
                subject: Place(task, cell.name)
                for subject, (cell, task, _) in _in_order(parts, studies)
            },
            family=tuple(axis_family(cells, studies, parts)),
        ),
    )


Parts = Mapping[str, tuple[Cell, str, Manifest]]
"""By task in a cell: the cell, the task, and the cell's manifest."""


def _in_order(
    parts: Parts, studies: Mapping[str, object]
) -> list[tuple[str, tuple[Cell, str, Manifest]]]:
    return [(subject, parts[subject]) for subject in studies]


def axis_family(
    cells: Sequence[Cell], studies: Mapping[str, Mapping[str, str]], parts: Parts
) -> list[AxisContrast]:
    """The comparisons along the axes: of each method on a task, all pairs of cells that differ in one
    value.

    The earlier cell of a pair is the reference.
    """
    contrasts = []
    for axis in cells[0].values:
        for reference, subject in combinations(studies, 2):
            (first, task, _), (second, other_task, _) = parts[reference], parts[subject]
            if task != other_task or not _differ_in(axis, first, second):
                continue
            contrasts += [
                AxisContrast(axis, method, subject, reference)
                for method in studies[subject]
                if method in studies[reference]
            ]
    return contrasts


def _differ_in(axis: str, first: Cell, second: Cell) -> bool:
    return all((first.values[key] != second.values[key]) == (key == axis) for key in first.values)
