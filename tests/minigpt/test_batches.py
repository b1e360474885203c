"""Windows predict every token once; batches depend on seed and step alone, and an epoch is each sequence once."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minigpt.batches import Batches, Split, split_ids
from minigpt.errors import UserError

ORDERS: tuple[Literal["random", "epochs"], ...] = ("random", "epochs")


def batches_of(length: int, order: Literal["random", "epochs"], *, batch_size: int = 4, seed: int = 7) -> Batches:
    """Batches of a split whose ids are their own places, in contexts of 16."""
    return Batches(Split(np.arange(length), "training", 16), batch_size, order, seed)


@given(st.integers(1, 40), st.integers(0, 300))
def test_windows_predict_every_id_but_the_first_once(block_size: int, extra: int) -> None:
    """Guards the promise of a full-split loss: no target dropped at a window's edge or in the short last one, none twice."""
    ids = np.arange(block_size + 1 + extra)
    windows = Split(ids, "validation", block_size).windows()
    targets = [target for window in windows for target in window[1:]]
    assert targets == list(range(1, len(ids)))
    assert all(len(window) <= block_size + 1 for window in windows)


@given(st.integers(1, 20), st.integers(0, 400), st.integers(1, 500))
def test_windows_of_a_limited_number_are_whole_distinct_and_spread(block_size: int, extra: int, tokens: int) -> None:
    ids = np.arange(block_size + 1 + extra)
    split = Split(ids, "training", block_size)
    starts = [int(window[0]) for window in split.windows(tokens)]
    whole = (len(ids) - 1) // block_size
    assert len(starts) == max(1, min(whole, -(-tokens // block_size)))
    assert len(set(starts)) == len(starts)
    assert all(len(window) == block_size + 1 for window in split.windows(tokens))
    # Spread over the split, not taken from its beginning: the gaps differ by one window at the most.
    gaps = np.diff(starts)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= block_size


def test_validation_is_the_end_of_the_corpus_and_overlaps_nothing() -> None:
    train, val = split_ids(np.arange(1000), 0.1, 16)
    assert train.ids.tolist() + val.ids.tolist() == list(range(1000))
    assert len(val) == 100


@pytest.mark.parametrize(("length", "name"), [(100, "validation"), (17, "training")])
def test_a_split_shorter_than_one_context_is_named(length: int, name: str) -> None:
    with pytest.raises(UserError, match=f"its {name} split has"):
        split_ids(np.arange(length), 0.1, 16)


# ── either order ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("order", ORDERS)
def test_a_batch_depends_on_seed_and_step_alone(order: Literal["random", "epochs"]) -> None:
    """Guards exact resume: neither the batches before nor anything else that draws random numbers may shift one."""
    batches = batches_of(1000, order)
    first = batches.at(123)
    torch.rand(5)
    np.random.rand(5)
    batches.at(5)
    again = batches.at(123)
    fresh = batches_of(1000, order).at(123)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert torch.equal(first[0], fresh[0]) and torch.equal(first[1], fresh[1])
    assert not torch.equal(first[0], batches.at(124)[0])
    assert not torch.equal(first[0], batches_of(1000, order, seed=8).at(123)[0])


@pytest.mark.parametrize("order", ORDERS)
def test_targets_are_the_ids_shifted_by_one(order: Literal["random", "epochs"]) -> None:
    ids, targets = batches_of(1000, order, batch_size=8).at(0)
    assert ids.shape == targets.shape == (8, 16)
    assert ids.dtype == targets.dtype == torch.int64
    assert torch.equal(ids + 1, targets)


@pytest.mark.parametrize("order", ORDERS)
def test_tokens_are_counted_exactly(order: Literal["random", "epochs"]) -> None:
    """The axis of the curves and the throughput hang on it; an epoch's last batch is smaller."""
    batches = batches_of(165, order)  # 10 sequences, so 4 + 4 + 2
    seen = 0
    for step in range(10):
        assert batches.tokens_at(step) == seen
        seen += batches.at(step)[0].numel()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.int64])
def test_ids_may_lie_in_a_file(tmp_path: Path, order: Literal["random", "epochs"], dtype: type[np.integer]) -> None:
    """A large corpus is never all in memory: what a step takes is read, and comes as torch's int64."""
    np.arange(1000, dtype=dtype).tofile(tmp_path / "ids")
    mapped = np.memmap(tmp_path / "ids", dtype=dtype, mode="r")
    ids, targets = Batches(Split(mapped, "training", 16), 4, order, 7).at(3)
    expected, expected_targets = batches_of(1000, order).at(3)
    assert torch.equal(ids, expected) and torch.equal(targets, expected_targets)
    ids += 1  # a batch is a copy: nothing may write into the corpus
    assert mapped[0] == 0


# ── random windows ────────────────────────────────────────────────────────────────────────────────────────────────


def test_random_batches_reach_both_ends_of_the_split() -> None:
    """Guards against an off-by-one that would leave the last token unseen."""
    batches = batches_of(20, "random", batch_size=8)
    drawn = [batches.at(step) for step in range(20)]
    assert min(int(ids.min()) for ids, _ in drawn) == 0
    assert max(int(targets.max()) for _, targets in drawn) == 19


def test_an_epoch_of_random_windows_has_as_many_tokens_as_the_split() -> None:
    assert batches_of(1000, "random").steps_per_epoch == pytest.approx(1000 / 64)


# ── epochs ────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.integers(1, 9), st.integers(17, 600), st.integers(0, 2**63 - 1), st.integers(0, 1000))
def test_an_epoch_has_each_sequence_once(batch_size: int, length: int, seed: int, epoch: int) -> None:
    batches = batches_of(length, "epochs", batch_size=batch_size, seed=seed)
    steps = int(batches.steps_per_epoch)
    drawn = [batches.at(epoch * steps + place) for place in range(steps)]
    sequences = (length - 1) // 16
    starts = [int(row[0]) for ids, _ in drawn for row in ids]
    assert sorted(starts) == [16 * number for number in range(sequences)]
    assert [len(ids) for ids, _ in drawn[:-1]] == [batch_size] * (steps - 1)
    assert 1 <= len(drawn[-1][0]) <= batch_size
    assert all(torch.equal(ids + 1, targets) for ids, targets in drawn)
    assert batches.tokens_at((epoch + 1) * steps) == (epoch + 1) * sequences * 16


def test_every_epoch_is_shuffled_anew() -> None:
    batches = batches_of(16 * 50 + 1, "epochs", batch_size=50)
    orders = [batches.at(epoch)[0][:, 0].tolist() for epoch in range(5)]
    assert len({tuple(order) for order in orders}) == 5
    assert all(order != sorted(order) for order in orders)


def test_a_split_with_fewer_sequences_than_a_batch_is_one_small_batch() -> None:
    batches = batches_of(40, "epochs", batch_size=8)
    assert (batches.steps_per_epoch, [len(batches.at(step)[0]) for step in range(3)]) == (1, [2, 2, 2])
