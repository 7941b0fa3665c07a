"""The word embeddings of stacked classifiers, of which only the rows that training uses are trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.models.network import Leaf


class WordTable:
    """The word embeddings of every member, one for each of `tables` (rows, width).

    Only the rows of `vocabulary` (sorted token ids) have gradients, or all rows without one; with
    `frozen` none has. No other row may occur in training: weight decay is all that happens to it, and
    is applied as one factor, which `decay_unused` keeps. So a step costs no more than the training
    split's words.
    """

    def __init__(
        self,
        tables: Sequence[Tensor],
        device: torch.device,
        vocabulary: Tensor | None = None,
        frozen: bool = False,
    ) -> None:
        # Students that start from one encoder share its table: then there is one row for all.
        shared = all(table.data_ptr() == tables[0].data_ptr() for table in tables)
        self.start = torch.stack([*tables[:1]] if shared else [*tables]).to(device, torch.float32)
        """(members or 1, rows, width): the tables that training starts from."""
        rows = self.start.shape[1]
        ids = torch.arange(rows) if vocabulary is None else vocabulary
        self.ids = (ids[:0] if frozen else ids).to(device)
        """(words,): the token ids of the trained rows."""
        self.word_of_id = torch.full((rows,), -1, device=device)
        """(rows,): the number of an id's trained row, or -1."""
        self.word_of_id[self.ids] = torch.arange(len(self.ids), device=device)
        copies = len(tables) // len(self.start)
        self.vectors = self.start[:, self.ids].repeat(copies, 1, 1).requires_grad_(not frozen)
        """(members, words, width): the trained rows."""
        self.decay = [1.0] * len(tables)
        """By member: the product of all steps' decay, for the other rows."""

    @property
    def members(self) -> int:
        """The number of classifiers."""
        return len(self.vectors)

    def leaves(self) -> list[Leaf]:
        """The tensor that is trained, unless the table is frozen."""
        return [Leaf(self.vectors, True)] if self.vectors.requires_grad else []

    def decay_unused(self, factors: Sequence[float]) -> None:
        """Note a step's weight decay, 1 − rate · decay, of each member for its other rows."""
        if self.vectors.requires_grad:
            self.decay = [past * new for past, new in zip(self.decay, factors, strict=True)]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some members only. The trained tensor is a new one afterwards."""
        index = torch.tensor(rows, device=self.vectors.device)
        self.vectors = selected(self.vectors, index)
        if len(self.start) > 1:
            self.start = self.start[index]
        self.decay = [self.decay[row] for row in rows]

    def table(self, member: int) -> Tensor:
        """One member's whole table (rows, width) as it is now."""
        table = self.start[member % len(self.start)] * self.decay[member]
        table[self.ids] = self.vectors[member].detach()
        return table

    def look_up(self, ids: Tensor, training: bool) -> Tensor:
        """Vectors (members, B, T, width) of token ids; in training all ids are of the vocabulary."""
        if not len(self.ids):
            return looked_up(self.start, ids)
        words = self.word_of_id[ids]
        if training:
            return looked_up(self.vectors, words)
        trained = looked_up(self.vectors, words.clamp(min=0))
        decay = torch.tensor(self.decay, device=ids.device)[:, None, None, None]
        return torch.where((words >= 0)[..., None], trained, looked_up(self.start, ids) * decay)


def selected(values: Tensor, index: Tensor) -> Tensor:
    """The rows of an index as a tensor that is trained if `values` is."""
    return values.detach()[index].requires_grad_(values.requires_grad)


def looked_up(tables: Tensor, ids: Tensor) -> Tensor:
    """Rows (members, ..., width) of tables (members or 1, rows, width) by ids (members or 1, ...)."""
    members, rows, width = tables.shape
    if members > 1:
        offsets = torch.arange(members, device=ids.device) * rows
        ids = ids + offsets.view(-1, *[1] * (ids.ndim - 1))
    return F.embedding(ids, tables.reshape(members * rows, width))
