"""Teacher layers for each student layer: maps and buckets. Layers are counted from 1."""

from __future__ import annotations


def skip_map(students: int, teachers: int) -> list[int]:
    """The teacher layer of each student layer j = 1..m: j·n/m, rounded half up; the last is n."""
    return [(2 * j * teachers + students) // (2 * students) for j in range(1, students + 1)]


def layer_pairs(students: int, teachers: int, layers: str) -> list[tuple[int, int]]:
    """Pairs (student layer, teacher layer): the `last` layers, or all student layers by `skip_map`.

    The other value of `layers` is `mapped`: 12 → 4 gives (1, 3), (2, 6), (3, 9), (4, 12).
    """
    if layers == "last":
        return [(students, teachers)]
    return list(enumerate(skip_map(students, teachers), start=1))


def buckets(students: int, teachers: int, overlap: int) -> list[list[int]]:
    """Neighbouring teacher layers for each student layer; bucket j ends at layer `skip_map`[j].

    `overlap` is the number of layers that neighbouring buckets share. With 1 a bucket also holds the
    first layer of the next bucket, and with 2 the last layer of the previous bucket too. 12 → 4 gives
    1-3, 4-6, 7-9, 10-12 with 0, 1-4, 4-7, 7-10, 10-12 with 1, and 1-4, 3-7, 6-10, 9-12 with 2. No bucket
    is empty if the student is not deeper than the teacher.
    """
    ends = skip_map(students, teachers)
    starts = [1, *(end + 1 for end in ends[:-1])]
    return [
        list(range(max(start - (overlap > 1), 1), min(end + (overlap > 0), teachers) + 1))
        for start, end in zip(starts, ends, strict=True)
    ]
