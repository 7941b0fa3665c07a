"""Which teacher layers belong to which student layer: maps and buckets. Layers are counted from 1."""

from __future__ import annotations


def skip_map(students: int, teachers: int) -> list[int]:
    """Teacher layer of every student layer j = 1..m: j·n/m, rounded half up; the last is n."""
    return [(2 * j * teachers + students) // (2 * students) for j in range(1, students + 1)]


def buckets(students: int, teachers: int, overlapping: bool) -> list[list[int]]:
    """Neighbouring teacher layers of every student layer, cut where `skip_map` says.

    Overlapping buckets also hold the first layer of the next one, so that neighbours share one.
    12 → 4 gives 1-3, 4-6, 7-9, 10-12, and overlapping 1-4, 4-7, 7-10, 10-12. No bucket is empty
    when the student is no deeper than the teacher.
    """
    ends = skip_map(students, teachers)
    starts = [1, *(end + 1 for end in ends[:-1])]
    last = [min(end + overlapping, teachers) for end in ends]
    return [list(range(start, end + 1)) for start, end in zip(starts, last, strict=True)]
