"""Faults of a method's class in one line: the class, file and line, the rule, and what to write."""

from __future__ import annotations

import ast
import inspect
import traceback
from pathlib import Path

from harness.errors import MethodError, first_line
from harness.method import Method, Shapes

ALONE = ", or set supports_vmap = False"
"""The way out for a method that cannot be batched."""
NO_VMAP_RULE = (
    (
        "data-dependent control flow",
        "`terms` branches on the value of a tensor",
        "torch.where(condition, one, other) chooses by value",
    ),
    (
        "calling .item()",
        "`terms` makes a Python number of a tensor (.item(), float(), int())",
        "keep the number as a tensor",
    ),
    (
        "data pointer",
        "`terms` leaves torch (.numpy(), np.…, .tolist())",
        "compute with torch, or give the part a batching rule as in methods/emd.py",
    ),
    (
        "dynamic shape",
        "`terms` makes a tensor whose size depends on values (a boolean mask as index, nonzero, unique)",
        "multiply by the mask, or use masked_mean and torch.where",
    ),
    (
        "vmap fallback",
        "`terms` uses an operation without a batching rule",
        "compute the same with other operations",
    ),
)
"""Parts of torch's messages about `vmap`, what they mean, and what to write instead."""
ANYWHERE = (
    (
        ("in-place operation", "inplace arithmetic", "match the broadcast shape"),
        "`terms` writes to a tensor in place",
        "make a new tensor (x = x + y for x += y, torch.stack for filling)",
    ),
    (
        ("numpy()",),
        "`terms` leaves torch (.numpy(), np.…)",
        "compute with torch, so that gradients reach the student",
    ),
    (
        ("random operation",),
        "`terms` draws random numbers",
        "draw in __init__, from its `generator`, and keep the draw in a buffer",
    ),
)
"""The same for messages that do not come from `vmap` alone."""
NO_SUPER = (
    "`__init__` does not call its base class first; begin it with "
    "super().__init__(shapes, structure, generator)"
)
SIZES = (
    "must match the size",
    "cannot be multiplied",
    "must match except",
    "could not be broadcast",
    "invalid for input of size",
    "shape mismatch",
    "size mismatch",
    "must have the same",
    "expected size",
    "stack expects each tensor to be equal",
    "out of bounds",
    "out of range",
    "not broadcastable",
    "does not broadcast",
)
"""Parts of torch's messages about sizes that do not fit."""


class BrokenRule(MethodError):
    """A method that breaks a rule, whatever teacher and student are."""


def fault(kind: type[Method], words: str, place: str = "") -> BrokenRule:
    """The error of a class that breaks a rule. `place` is file and line, by default of the class."""
    return BrokenRule(f"{kind.__name__} ({place or place_of(kind)}): {words}")


def place_of(kind: type[Method], attribute: str = "") -> str:
    """File and line of a class, or of an attribute's definition in the class or in a base of it."""
    owner = next((base for base in _classes(kind) if attribute in vars(base)), kind)
    try:
        start = inspect.getsourcelines(owner)[1]
        file = inspect.getfile(owner)
    except (OSError, TypeError):  # a class that was made without a file
        return f"module {kind.__module__}"
    return _place(file, _line_of(Path(file), owner.__name__, attribute, start))


def _line_of(file: Path, name: str, attribute: str, start: int) -> int:
    """The line where a class that begins at `start` defines an attribute, or that of the class."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    definition = next(node for node in classes if node.name == name and node.lineno >= start)
    for node in definition.body:
        if isinstance(node, ast.FunctionDef) and node.name == attribute:
            return node.lineno
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        names = [part for target in targets for part in ast.walk(target)]
        if any(isinstance(part, ast.Name) and part.id == attribute for part in names):
            return node.lineno
    return definition.lineno


def explain(
    kind: type[Method], error: Exception, shapes: Shapes, where: str = "terms"
) -> BrokenRule:
    """The fault behind an exception of `terms` or `__init__`."""
    place = _place_in(kind, error) or place_of(kind, where)
    text = f"{type(error).__name__}: {first_line(error)}"
    for part, rule, instead in NO_VMAP_RULE:
        if part in str(error):
            return fault(kind, f"{rule}; {instead}{ALONE}", place)
    for parts, rule, instead in ANYWHERE:
        if any(part in str(error) for part in parts):
            return fault(kind, f"{rule}; {instead}", place)
    if "before Module.__init__() call" in str(error):
        return fault(kind, NO_SUPER, place)
    if isinstance(error, KeyError):
        return fault(kind, _missing_key(kind, error, where), place)
    if any(part in str(error).lower() for part in SIZES):
        return fault(kind, f"sizes do not fit ({first_line(error)}); {_sizes(shapes)}", place)
    return fault(kind, f"`{where}` fails with {text}", place)


def _sizes(shapes: Shapes) -> str:
    states = (
        f"made-up states had {shapes.student_layers} student layers of width {shapes.student_width} "
        f"and {shapes.teacher_layers} teacher layers of width {shapes.teacher_width}"
    )
    if shapes.student_width == shapes.teacher_width:
        return (
            f"{states}: choose a teacher layer for each student layer, as skip_map does, or raise a "
            "MethodError in __init__ for numbers of layers that the method does not work with"
        )
    return f"{states}: map widths with learned_map, or refuse them with require_equal_widths"


def _missing_key(kind: type[Method], error: KeyError, where: str) -> str:
    name = error.args[0] if error.args else ""
    if name not in kind.space:
        form = "scalar" if where == "terms" else "structural"
        return f"`{where}` reads {name!r}, which `space` does not declare; declare a {form} Hyper"
    place = "context.scalars" if kind.space[name].kind == "scalar" else "structure"
    return f"`{where}` does not find {name!r}; a {kind.space[name].kind} Hyper arrives in {place}"


def _classes(kind: type[Method]) -> list[type]:
    """The class and its bases, without those of the harness and of torch."""
    bases = kind.__mro__[: kind.__mro__.index(Method)]
    return [base for base in bases if not base.__module__.startswith("harness.")]


def _place_in(kind: type[Method], error: Exception) -> str:
    """The last line of the author's files that an exception passed; empty if there is none."""
    files = set()
    for base in _classes(kind):
        try:
            files.add(inspect.getfile(base))
        except (OSError, TypeError):  # a class that was made without a file
            continue
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        if frame.filename in files and frame.lineno is not None:
            return _place(frame.filename, frame.lineno)
    return ""


def _place(file: str, line: int) -> str:
    path = Path(file)
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return f"{path}, line {line}"
