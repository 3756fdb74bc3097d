"""Orders that depend on the labels and a seed alone."""

import hashlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.splitting import cross_validation_fold, split_rows, stratified_fraction, stratified_order

labels_of = st.lists(st.integers(0, 4), min_size=1, max_size=300).map(np.array)
seeds = st.integers(0, 2**32)


@settings(deadline=None)
@given(labels=labels_of, seed=seeds)
def test_every_row_has_one_place(labels: np.ndarray, seed: int) -> None:
    assert sorted(stratified_order(labels, seed=seed)) == list(range(len(labels)))


@settings(deadline=None)
@given(labels=labels_of, seed=seeds, data=st.data())
def test_every_cut_holds_the_classes_in_proportion(labels: np.ndarray, seed: int, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(labels)))
    shares = np.bincount(labels, minlength=5) / len(labels)
    for part in np.split(stratified_order(labels, seed=seed), [cut]):
        # One class is at most one sample off, and the largest may have to make up for the four others.
        assert np.all(np.abs(np.bincount(labels[part], minlength=5) - shares * len(part)) <= 4)


@settings(deadline=None)
@given(size=st.integers(1, 30), cycles=st.integers(0, 30), seed=seeds)
def test_classes_of_equal_size_are_cut_exactly(size: int, cycles: int, seed: int) -> None:
    labels = np.repeat(np.arange(10), size)
    cycles = min(cycles, size)
    first = stratified_order(labels, seed=seed)[: 10 * cycles]
    assert np.bincount(labels[first], minlength=10).tolist() == [cycles] * 10


def test_neighbouring_seeds_give_other_orders() -> None:
    labels = np.repeat(np.arange(10), 50)
    orders = {stratified_order(labels, seed=seed).tobytes() for seed in range(5)}
    assert len(orders) == 5


def test_the_order_will_be_the_same_in_years_on_any_machine() -> None:
    order = stratified_order(np.arange(1000) % 7, seed=0)
    assert order.dtype == np.int64
    assert hashlib.sha256(order.astype("<i8").tobytes()).hexdigest()[:16] == "ad70eca44cfb2dec"


@settings(deadline=None)
@given(labels=labels_of, fractions=st.tuples(st.floats(1e-3, 1), st.floats(1e-3, 1)))
def test_a_smaller_fraction_is_a_subset_of_a_larger_one(labels: np.ndarray, fractions: tuple[float, float]) -> None:
    few, many = (stratified_fraction(labels, fraction) for fraction in sorted(fractions))
    assert set(few) <= set(many)
    assert len(few) == max(1, round(min(fractions) * len(labels)))
    assert np.all(np.diff(few) > 0)


def test_the_whole_is_all_rows_as_they_stand() -> None:
    assert stratified_fraction(np.array([2, 0, 1, 0]), 1.0).tolist() == [0, 1, 2, 3]


@settings(deadline=None)
@given(labels_of.filter(lambda labels: len(labels) >= 5), st.integers(2, 5), seeds)
def test_over_all_folds_each_row_is_validated_on_once(labels: np.ndarray, folds: int, seed: int) -> None:
    cuts = [cross_validation_fold(labels, folds=folds, fold=fold, seed=seed) for fold in range(folds)]
    assert np.array_equal(np.sort(np.concatenate([held for _, held in cuts])), np.arange(len(labels)))
    assert all(np.array_equal(np.sort(np.concatenate(cut)), np.arange(len(labels))) for cut in cuts)
    sizes = [len(held) for _, held in cuts]
    assert max(sizes) - min(sizes) <= 1


def test_each_fold_has_its_share_of_every_class() -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    for fold in range(5):
        _, held = cross_validation_fold(labels, folds=5, fold=fold, seed=0)
        counts = np.bincount(labels[held])
        assert np.all(np.abs(counts - [10, 6, 4]) <= 1)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=20, max_size=200), st.integers(2, 4), seeds)
def test_a_group_is_never_in_two_folds(rows: list[tuple[int, int]], folds: int, seed: int) -> None:
    groups, labels = np.array(rows).T
    cuts = [cross_validation_fold(labels, folds=folds, fold=fold, seed=seed, groups=groups) for fold in range(folds)]
    assert np.array_equal(np.sort(np.concatenate([held for _, held in cuts])), np.arange(len(labels)))
    assert all(not set(groups[train]) & set(groups[held]) for train, held in cuts)
    assert all(len(train) + len(held) == len(labels) for train, held in cuts)


def test_folds_of_groups_are_about_equal_and_have_about_their_share_of_every_class() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), rng.integers(5, 20, 40))
    labels = (rng.random(len(groups)) < np.repeat(rng.random(40), np.bincount(groups))).astype(np.int64)
    for fold in range(4):
        _, held = cross_validation_fold(labels, folds=4, fold=fold, seed=0, groups=groups)
        assert np.all(np.abs(np.bincount(labels[held]) / np.bincount(labels) - 0.25) < 0.03)


def test_each_row_is_in_one_split_and_each_split_has_its_share() -> None:
    rows = split_rows(np.arange(200) % 4, {"validation": 0.2, "test": 0.1}, seed=0)
    assert {name: len(some) for name, some in rows.items()} == {"train": 140, "validation": 40, "test": 20}
    assert np.array_equal(np.sort(np.concatenate(list(rows.values()))), np.arange(200))


def test_each_group_is_in_one_split_and_each_split_has_its_share() -> None:
    groups = np.arange(200) % 20
    rows = split_rows(np.zeros(200, dtype=np.int64), {"validation": 0.2, "test": 0.1}, seed=0, groups=groups)
    assert {name: len(set(groups[some])) for name, some in rows.items()} == {"train": 14, "validation": 4, "test": 2}
    assert np.array_equal(np.sort(np.concatenate(list(rows.values()))), np.arange(200))


def test_a_fraction_has_its_share_of_every_class() -> None:
    labels = np.repeat(np.arange(4), 50)
    assert np.bincount(labels[stratified_fraction(labels, 0.2)]).tolist() == [10] * 4
