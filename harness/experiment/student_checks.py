"""Students of their own shape are checked from configurations alone, before anything is prepared."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.config import StudyConfig
from harness.data.splits import TaskData
from harness.data.tasks import Task
from harness.errors import MethodError, TeacherError
from harness.method import Method
from harness.models.checkpoints import have_same_tokens, locate, read_config
from harness.registry.discovery import chosen_methods
from harness.registry.instantiate import check_method, shapes_of, usable_methods
from harness.registry.space import space_of


def check_students(configs: Sequence[StudyConfig], tasks: Mapping[str, TaskData]) -> None:
    """Check that at least one task can be studied with the students of at least one configuration.

    Tasks and cells that cannot be studied are left out later, with their reasons. Students with the
    shape of their teacher are not checked here.

    Raises:
        MethodError: no method can be used with the students, or their sizes do not fit.
        TeacherError: a teacher or a student's checkpoint cannot be found or used.
    """
    if not all(config.student.has_own_shape for config in configs):
        return
    errors: list[MethodError | TeacherError] = []
    with tempfile.TemporaryDirectory() as scratch:
        for config in configs:
            for data in tasks.values():
                try:
                    usable_on(config, data.task, Path(scratch))
                except (MethodError, TeacherError) as error:
                    errors.append(error)
                else:
                    return
    raise errors[0]


def usable_on(config: StudyConfig, task: Task, scratch: Path) -> list[type[Method]]:
    """The methods that can be used with a configuration's students on a task.

    The demo's encoder lies in the folder `scratch`, and is not pre-trained.

    Raises:
        MethodError: nothing is left to compare, or the students' sizes do not fit.
        TeacherError: a teacher or a student's checkpoint cannot be found or used.
    """
    name = config.teacher.checkpoint or config.teacher.pretrained
    teacher = locate(name, task.name, scratch, outline=True)
    start = teacher
    if config.student.checkpoint is not None:
        start = locate(config.student.checkpoint, task.name, scratch, outline=True)
    encoders = read_config(teacher), read_config(start)
    shapes = shapes_of(*encoders, task.outputs, config)
    shares_tokens = have_same_tokens(teacher, start)

    def check(method: type[Method]) -> None:
        space = space_of(method, config.search, task.regression)
        check_method(method, shapes, encoders, space.constants, shares_tokens)

    return usable_methods(chosen_methods(config), config.baseline, check)[0]
