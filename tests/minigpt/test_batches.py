"""Windows predict every token once; batches depend on seed and step alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minigpt.batches import Split, split_ids
from minigpt.errors import UserError


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


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    """Guards exact resume: nothing else that draws random numbers may shift the batches."""
    split = Split(np.arange(1000), "training", 16)
    first = split.random_batch(4, seed=7, step=123)
    torch.rand(5)
    np.random.rand(5)
    split.random_batch(4, seed=7, step=5)
    again = split.random_batch(4, seed=7, step=123)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], split.random_batch(4, seed=7, step=124)[0])
    assert not torch.equal(first[0], split.random_batch(4, seed=8, step=123)[0])


def test_targets_are_the_ids_shifted_by_one() -> None:
    ids, targets = Split(np.arange(1000), "training", 16).random_batch(8, seed=1, step=0)
    assert ids.shape == targets.shape == (8, 16)
    assert torch.equal(ids + 1, targets)


def test_batches_reach_both_ends_of_the_split() -> None:
    """Guards against an off-by-one that would leave the last token unseen."""
    split = Split(np.arange(20), "training", 16)
    batches = [split.random_batch(8, seed=1, step=step) for step in range(20)]
    assert min(int(ids.min()) for ids, _ in batches) == 0
    assert max(int(targets.max()) for _, targets in batches) == 19


def test_validation_is_the_end_of_the_corpus_and_overlaps_nothing() -> None:
    train, val = split_ids(np.arange(1000), 0.1, 16)
    assert train.ids.tolist() + val.ids.tolist() == list(range(1000))
    assert len(val) == 100


@pytest.mark.parametrize(("length", "name"), [(100, "validation"), (17, "training")])
def test_a_split_shorter_than_one_context_is_named(length: int, name: str) -> None:
    with pytest.raises(UserError, match=f"its {name} split has"):
        split_ids(np.arange(length), 0.1, 16)
