"""Who wins, and when nobody does."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from pipeline.lifecycle.reports.contest import are_comparable, duels, verdict
from pipeline.lifecycle.reports.predictions import SavedPredictions
from pipeline.lifecycle.reports.statistics import mcnemar

Predicted = Callable[..., SavedPredictions]


def test_equals_have_no_clear_winner(predicted: Predicted) -> None:
    networks = [predicted(0.80, seed=1), predicted(0.81, seed=2)]
    assert verdict(["a", "b"], networks, duels(networks)) == "no clear winner"


def test_a_good_network_beats_a_bad_one_and_comes_first(predicted: Predicted) -> None:
    networks = [predicted(0.6, seed=1), predicted(0.9, seed=2)]
    (duel,) = duels(networks)
    assert verdict(["bad", "good"], networks, [duel]) == "good is the best"
    assert (duel.first, duel.second) == (1, 0)
    assert duel.p_value == duel.adjusted == mcnemar(duel.only_first, duel.only_second) < 0.001
    assert duel.difference == pytest.approx((duel.only_first - duel.only_second) / 400) == pytest.approx(0.3)
    assert 0.2 < duel.interval.low < duel.difference < duel.interval.high < 0.4


def test_two_that_cannot_be_told_apart_share_the_place_before_a_third(predicted: Predicted) -> None:
    networks = [predicted(0.90, seed=1), predicted(0.6, seed=2), predicted(0.91, seed=3)]
    assert verdict(["a", "b", "c"], networks, duels(networks)) == "no clear winner among c and a"


def test_a_difference_that_counts_alone_does_not_count_among_many(predicted: Predicted) -> None:
    first, second = predicted(0.80, seed=1), predicted(0.865, seed=2)
    (alone,) = duels([first, second])
    assert alone.is_decided
    among_many = duels([first, second, *(predicted(0.83, seed=seed) for seed in range(3, 11))])
    same = next(duel for duel in among_many if {duel.first, duel.second} == {0, 1})
    assert same.p_value == alone.p_value and not same.is_decided


def test_only_those_that_judged_the_same_samples_can_be_paired(predicted: Predicted) -> None:
    network = predicted(0.8)
    assert are_comparable([network, predicted(0.9, seed=5)])
    assert not are_comparable([network, predicted(0.8, digest="another")])
    assert not are_comparable([network, replace(network, ids=network.ids[::-1])])
