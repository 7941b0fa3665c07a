"""The table of words: whose rows are trained, what happens to the others, and who stays."""

import pytest
import torch
from torch import Tensor

from harness.models.word_table import WordTable, look_up_rows

CPU = torch.device("cpu")
IDS = torch.tensor([[[1, 4, 1]]])


def tables(members: int) -> list[Tensor]:
    return list(torch.randn(members, 6, 2, generator=torch.Generator().manual_seed(0)))


def test_members_that_start_from_one_table_hold_it_once_and_train_rows_of_their_own() -> None:
    table = tables(1)[0]
    words = WordTable([table] * 3, CPU, torch.tensor([1, 4]))
    assert (words.start.shape, words.vectors.shape, words.members) == ((1, 6, 2), (3, 2, 2), 3)
    with torch.no_grad():
        words.vectors[1] += 1
    assert torch.equal(words.table(0), table)
    assert torch.equal(words.table(1)[[1, 4]], table[[1, 4]] + 1)
    assert torch.equal(words.table(1)[[0, 2, 3, 5]], table[[0, 2, 3, 5]])
    assert WordTable([table, table.clone()], CPU).start.shape == (2, 6, 2)


@pytest.mark.parametrize("training", [False, True])
def test_vectors_are_those_of_the_table(training: bool) -> None:
    own = tables(3)
    words = WordTable(own, CPU, torch.tensor([1, 4]))
    words.decay_unused([0.5, 1.0, 0.25])
    found = words.look_up(IDS.expand(3, -1, -1), training)
    expected = torch.stack([words.table(member)[IDS[0]] for member in range(3)])
    assert torch.equal(found, expected)
    if not training:  # only then an id may be of no trained row
        others = words.look_up(torch.tensor([[[0, 4, 5]]]).expand(3, -1, -1), training)
        assert torch.equal(others[2], words.table(2)[torch.tensor([[0, 4, 5]])])
    found.sum().backward()
    assert words.vectors.grad is not None
    assert words.vectors.grad[:, 0].eq(2).all()  # the id 1 stands twice
    assert words.vectors.grad[:, 1].eq(1).all()


def test_a_frozen_table_has_no_leaf_and_never_decays() -> None:
    own = tables(2)
    words = WordTable(own, CPU, torch.tensor([1, 4]), freeze=True)
    words.decay_unused([0.5, 0.5])
    assert words.leaves() == []
    assert torch.equal(words.table(1), own[1])
    assert torch.equal(words.look_up(IDS.expand(2, -1, -1), True)[1], own[1][IDS[0]])


@pytest.mark.parametrize("vocabulary", [None, torch.tensor([1, 4])])
def test_the_paddings_row_gets_no_gradient_also_among_members_that_stay(
    vocabulary: Tensor | None,
) -> None:
    words = WordTable(tables(3), CPU, vocabulary, padding=4)
    for members, stays in ((3, 2), (1, 0)):
        words.look_up(IDS.expand(members, -1, -1), training=True).sum().backward()
        assert words.vectors.grad is not None
        gradient = words.vectors.grad[:, words.word_of_id[torch.tensor([1, 4])]]
        assert gradient[:, 0].eq(2).all()
        assert gradient[:, 1].eq(0).all()
        words.keep([stays])


def test_members_that_stay_keep_their_rows_and_their_decay() -> None:
    words = WordTable(tables(3), CPU, torch.tensor([1, 4]))
    words.decay_unused([0.5, 0.8, 0.25])
    before = words.table(2)
    words.keep([2])
    (leaf,) = words.leaves()
    assert leaf.tensor is words.vectors
    assert (words.members, words.decay) == (1, [0.25])
    assert torch.equal(words.table(0), before)


def test_rows_are_looked_up_in_each_members_own_table() -> None:
    own = torch.stack(tables(2))
    ids = torch.tensor([[[0, 5]], [[5, 5]]])
    expected = torch.stack([own[member][ids[member]] for member in range(2)])
    assert torch.equal(look_up_rows(own, ids), expected)
    assert torch.equal(look_up_rows(own[:1], ids)[1], own[0][ids[1]])
