"""What is kept of the test set's predictions, and that it reads back."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.lifecycle.final_test import Predictions
from pipeline.lifecycle.save_predictions import class_predictions, shorten_sentence, spectrograms, thumbnails
from pipeline.reports import predictions
from pipeline.reports.predictions import ClassPredictions, MultilabelPredictions, RegressionPredictions

Predicted = Callable[..., ClassPredictions]


def test_they_read_back_as_they_were_written_without_pickle(predicted: Predicted, tmp_path: Path) -> None:
    written = predicted(0.8)
    predictions.write_predictions(tmp_path, written)
    read = predictions.load_predictions(tmp_path)
    assert read is not None and read.digest == "the test set"
    assert np.array_equal(read.log_probabilities, written.log_probabilities)
    assert np.array_equal(read.correct, written.correct)


def test_a_file_that_is_cut_off_counts_as_none(predicted: Predicted, tmp_path: Path) -> None:
    assert predictions.load_predictions(tmp_path) is None
    predictions.write_predictions(tmp_path, predicted(0.8))
    path = tmp_path / predictions.PREDICTIONS_FILE
    path.write_bytes(path.read_bytes()[:500])
    assert predictions.load_predictions(tmp_path) is None


def test_sentences_read_back_without_pickle(predicted: Predicted, tmp_path: Path) -> None:
    network = predicted(0.8)
    sentences = np.array([f"Łódź 🐈 {row}" for row in network.reported_rows])
    predictions.write_predictions(tmp_path, replace(network, pictured=network.reported_rows, sentences=sentences))
    read = predictions.load_predictions(tmp_path)
    worst = int(network.worst_mistakes[0])
    assert read is not None and read.sentence(worst) == f"Łódź 🐈 {worst}" and read.picture(worst) is None


def test_a_file_from_before_there_were_sentences_is_read(predicted: Predicted, tmp_path: Path) -> None:
    predictions.write_predictions(tmp_path, predicted(0.8))
    with np.load(tmp_path / predictions.PREDICTIONS_FILE) as arrays:
        np.savez(
            tmp_path / predictions.PREDICTIONS_FILE,
            **{name: arrays[name] for name in arrays.files if name != "sentences"},
        )
    read = predictions.load_predictions(tmp_path)
    assert read is not None and read.sentence(int(read.worst_mistakes[0])) is None


def test_a_long_sentence_is_cut() -> None:
    assert shorten_sentence("a film") == "a film"
    assert len(shorten_sentence("a " * 1_000)) == predictions.LONGEST_SENTENCE and shorten_sentence(
        "a" * 1_000
    ).endswith("a ...")


def test_numbers_and_classes_are_told_apart_and_each_has_its_digest(predicted: Predicted, tmp_path: Path) -> None:
    predictions.write_predictions(tmp_path, predicted(0.8))
    assert (
        isinstance(kept := predictions.load_predictions(tmp_path), ClassPredictions) and kept.digest == "the test set"
    )
    column = np.arange(20, dtype=np.float32)[:, None]
    predictions.write_predictions(
        tmp_path, RegressionPredictions(column + 1, column, np.arange(20), column[:, 0], "of numbers")
    )
    read = predictions.load_predictions(tmp_path)
    assert isinstance(read, RegressionPredictions) and read.digest == "of numbers"
    assert read is not None and (read.residuals == -1).all() and read.largest_errors.tolist() == list(range(19, 7, -1))


def test_labels_are_told_apart_from_both_and_have_their_digest(tmp_path: Path) -> None:
    true = np.array([[True, False], [False, False]])
    written = MultilabelPredictions(
        np.full((2, 2), 0.5, np.float32), true, np.arange(2), np.ones(2, np.float32), "of labels"
    )
    predictions.write_predictions(tmp_path, written)
    read = predictions.load_predictions(tmp_path)
    assert isinstance(read, MultilabelPredictions) and (read.targets == true).all() and read.digest == "of labels"


def test_ten_thousand_samples_of_ten_classes_take_less_than_a_megabyte(predicted: Predicted, tmp_path: Path) -> None:
    predictions.write_predictions(tmp_path, predicted(0.9, size=10_000, classes=10))
    assert (tmp_path / predictions.PREDICTIONS_FILE).stat().st_size < 1_000_000


def test_many_values_are_kept_in_half_the_room_and_stay_finite() -> None:
    values = np.full((2_100, 1_000), -1e6, dtype=np.float32)
    values[:, 0] = -1e-4
    kept = predictions.compact_log_probabilities(values)
    assert kept.dtype == np.float16 and np.isfinite(kept).all()
    assert kept[0, 0] == pytest.approx(-1e-4, rel=1e-3)


def test_scores_become_probabilities_losses_and_classes() -> None:
    scores = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    expected = torch.nn.functional.cross_entropy(scores, torch.tensor([0, 0]), reduction="none")
    kept = class_predictions(Predictions(scores, torch.tensor([0, 0]), expected, torch.tensor([4, 7])), "digest")
    assert kept.predicted.tolist() == [0, 1] and kept.correct.tolist() == [True, False] and kept.ids.tolist() == [4, 7]
    assert kept.losses == pytest.approx(expected.numpy())
    assert kept.confidence == pytest.approx(scores.softmax(1).max(1).values.numpy())


def test_the_worst_mistakes_are_wrong_and_cost_the_most(predicted: Predicted) -> None:
    network = predicted(0.8)
    worst = network.worst_mistakes
    assert len(worst) == predictions.WORST_MISTAKES and not network.correct[worst].any()
    assert network.losses[worst].min() >= np.sort(network.losses[~network.correct])[-len(worst)]


def test_the_closest_calls_have_the_smallest_margins(predicted: Predicted) -> None:
    network = predicted(0.8)
    ordered = np.sort(np.exp(network.log_probabilities), axis=1)
    margins = ordered[:, -1] - ordered[:, -2]
    assert margins[network.lowest_margins] == pytest.approx(np.sort(margins)[: predictions.LOWEST_MARGINS], abs=1e-6)


def test_pictures_are_made_small_and_keep_their_shape_and_colours() -> None:
    grey = thumbnails(torch.full((2, 1, 28, 28), 7, dtype=torch.uint8))
    assert grey.shape == (2, 28, 28) and (grey == 7).all()
    colour = thumbnails(torch.full((1, 3, 256, 128), 200.0))
    assert colour.shape == (1, 64, 32, 3) and (colour == 200).all() and colour.dtype == np.uint8


def test_sound_is_shown_as_a_spectrogram_from_black_to_white_with_high_sounds_above() -> None:
    seconds = torch.arange(8000) / 8000
    low, high = (10_000 * torch.sin(2 * torch.pi * hertz * seconds) for hertz in (200, 3000))
    shown = spectrograms(torch.stack([low, high]).to(torch.int16), 8000)
    assert shown.shape == (2, 1, 40, 101) and shown.amin() == 0 and shown.amax() == 255
    rows = shown.mean(dim=3).argmax(dim=2).flatten().tolist()
    assert rows[0] > 30 and rows[1] < 10
    assert (spectrograms(torch.zeros(1, 800, dtype=torch.int16), 8000) == 0).all()
    assert thumbnails(shown).shape == (2, 25, 64)
    assert thumbnails(spectrograms(torch.zeros(0, 8000, dtype=torch.int16), 8000)).shape == (0, 25, 64)
