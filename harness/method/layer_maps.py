"""Teacher layers for each student layer: maps and buckets. Layers are counted from 1."""

from __future__ import annotations


def skip_map(students: int, teachers: int) -> list[int]:
    """The teacher layer of each student layer j = 1..m: j·n/m, rounded half up; the last is n."""
    return [(2 * j * teachers + students) // (2 * students) for j in range(1, students + 1)]


def buckets(students: int, teachers: int, overlap: bool) -> list[list[int]]:
    """Neighbouring teacher layers for each student layer; bucket j ends at layer `skip_map`[j].

    With `overlap` a bucket also holds the first layer of the next bucket. 12 → 4 gives 1-3, 4-6, 7-9,
    10-12, and with overlap 1-4, 4-7, 7-10, 10-12. No bucket is empty if the student is not deeper than
    the teacher.
    """
    ends = skip_map(students, teachers)
    starts = [1, *(end + 1 for end in ends[:-1])]
    return [
        list(range(start, min(end + overlap, teachers) + 1))
        for start, end in zip(starts, ends, strict=True)
    ]
