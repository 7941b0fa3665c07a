"""The word embeddings of stacked classifiers. The optimiser sees only the rows of words in training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.models.network import Leaf


class WordTable:
    """The word embeddings of every member, one for each of `tables` (rows, width).

    The rows of `vocabulary` (sorted token ids) have gradients. Without a vocabulary all rows have
    gradients; with `freeze` no row has. Training may look up rows with gradients only. Weight decay
    alone changes the other rows: `decay_unused` keeps one factor of decay for each member. So the cost
    of a step depends on the training split's words, and not on the size of the table.

    The gradient of the row of the token id `padding` is 0, also where a text spells out the padding
    token: so do the classes of Hugging Face.
    """

    def __init__(
        self,
        tables: Sequence[Tensor],
        device: torch.device,
        vocabulary: Tensor | None = None,
        freeze: bool = False,
        padding: int | None = None,
    ) -> None:
        # Students of one encoder have the same table in memory. One copy is enough for all members then.
        same_table = all(table.data_ptr() == tables[0].data_ptr() for table in tables)
        start = [*tables[:1]] if same_table else [*tables]
        self.start = torch.stack(start).to(device, torch.float32)
        """(members or 1, rows, width): the tables before training."""
        rows = self.start.shape[1]
        ids = torch.arange(rows) if vocabulary is None else vocabulary
        self.ids = (ids[:0] if freeze else ids).to(device)
        """(words,): the token ids of the rows with gradients."""
        self.word_of_id = torch.full((rows,), -1, device=device)
        """(rows,): the index of a token id in `ids`, or -1."""
        self.word_of_id[self.ids] = torch.arange(len(self.ids), device=device)
        copies = len(tables) // len(self.start)
        self.vectors = self.start[:, self.ids].repeat(copies, 1, 1).requires_grad_(not freeze)
        """(members, words, width): the rows with gradients."""
        padding_rows = [] if padding is None else (ids == padding).nonzero().flatten().tolist()
        self.padding_row = padding_rows[0] if padding_rows else None
        """The index of the padding's row in `ids`, None if it is not there."""
        self._zero_padding()
        self.decay = [1.0] * len(tables)
        """For each member the product of all steps' factors of decay, for the rows without gradients."""

    @property
    def members(self) -> int:
        """The number of classifiers."""
        return len(self.vectors)

    def leaves(self) -> list[Leaf]:
        """The tensor of the rows with gradients. The list is empty for a frozen table."""
        return [Leaf(self.vectors, True)] if self.vectors.requires_grad else []

    def decay_unused(self, factors: Sequence[float]) -> None:
        """Note each member's factor of decay in a step, 1 − rate · decay, for rows without gradients."""
        if self.vectors.requires_grad:
            pairs = zip(self.decay, factors, strict=True)
            self.decay = [product * factor for product, factor in pairs]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with the members of some rows only. `vectors` is a new tensor afterwards."""
        index = torch.tensor(rows, device=self.vectors.device)
        self.vectors = select_members(self.vectors, index)
        self._zero_padding()
        if len(self.start) > 1:
            self.start = self.start[index]
        self.decay = [self.decay[row] for row in rows]

    def _zero_padding(self) -> None:
        if self.padding_row is not None and self.vectors.requires_grad:
            zero_gradient(self.vectors, (slice(None), self.padding_row))

    def table(self, member: int) -> Tensor:
        """One member's whole table (rows, width), with the present weights."""
        table = self.start[member % len(self.start)] * self.decay[member]
        table[self.ids] = self.vectors[member].detach()
        return table

    def look_up(self, ids: Tensor, training: bool) -> Tensor:
        """Vectors (members, B, T, width) of token ids (members, B, T).

        With `training` all ids must be of the vocabulary.
        """
        if not len(self.ids):
            return look_up_rows(self.start, ids)
        words = self.word_of_id[ids]
        if training:
            return look_up_rows(self.vectors, words)
        vectors = look_up_rows(self.vectors, words.clamp(min=0))
        decay = torch.tensor(self.decay, device=ids.device)[:, None, None, None]
        start = look_up_rows(self.start, ids) * decay
        return torch.where((words >= 0)[..., None], vectors, start)


def select_members(values: Tensor, index: Tensor) -> Tensor:
    """The rows of an index (k,) from values (members, ...), with gradients if `values` has them."""
    return values.detach()[index].requires_grad_(values.requires_grad)


def zero_gradient(leaf: Tensor, part: tuple[slice | int, ...]) -> None:
    """Have `backward` leave zeros in a part of a leaf's gradient."""

    def clear(leaf: Tensor) -> None:
        assert leaf.grad is not None
        leaf.grad[part] = 0.0

    leaf.register_post_accumulate_grad_hook(clear)


def look_up_rows(tables: Tensor, ids: Tensor) -> Tensor:
    """Rows (members, ..., width) of tables (members or 1, rows, width) by ids (members or 1, ...)."""
    members, rows, width = tables.shape
    if members > 1:
        offsets = torch.arange(members, device=ids.device) * rows
        ids = ids + offsets.view(-1, *[1] * (ids.ndim - 1))
    return F.embedding(ids, tables.reshape(members * rows, width))
