"""Save what reports are made from: `predictions.npz` and `assembled.json`."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline import run_files
from pipeline.data.data_spec import splits_digest
from pipeline.data.datamodule import DataModule
from pipeline.data.dataset import Splits
from pipeline.lifecycle.build import Components
from pipeline.lifecycle.final_test import Predictions
from pipeline.models.layers.log_mel import LogMel
from pipeline.reports import predictions as saved
from pipeline.reports.evaluation_statistics import Ints
from pipeline.reports.report_data import ASSEMBLED
from pipeline.runs.run_directory import Run
from pipeline.spec import TaskKind
from pipeline.system.files import write_atomically
from pipeline.training.callbacks.checkpointing import Checkpointing

# P samples with an image

MAX_THUMBNAIL_SIDE = 64


def sample_images(components: Components, part: Literal["train", "test"], rows: Tensor) -> Tensor | None:
    """Return images (P, C, H, W), 0 black to 255 white, of these rows (P,); None for data without images."""
    if not isinstance(components.data, DataModule) or components.spec is None:
        return None
    match components.spec.kind:
        case "image":
            return components.data.splits.by_name()[part].inputs[rows].cpu()
        case "audio":
            return spectrograms(components.data.splits.by_name()[part].inputs[rows].cpu(), components.spec.sample_rate)
    return None


def spectrograms(waveforms: Tensor, sample_rate: int) -> Tensor:
    """Draw waveforms (P, S) as (P, 1, M, F), high frequencies above; each from its quietest, black, to its loudest."""
    if len(waveforms) == 0:  # no mistakes; MKL refuses a Fourier transform of nothing
        return torch.zeros(0, *LogMel.shape(waveforms.shape[1], sample_rate=sample_rate))
    loudness: Tensor = LogMel(sample_rate=sample_rate)(waveforms).flip(2)
    faintest, loudest = loudness.amin(dim=(1, 2, 3), keepdim=True), loudness.amax(dim=(1, 2, 3), keepdim=True)
    return 255 * (loudness - faintest) / (loudest - faintest).clamp(min=1e-6)


def thumbnails(images: Tensor) -> Ints:
    """Shrink images (P, C, H, W), 0 black to 255 white, to (P, h, w) or (P, h, w, 3) uint8."""
    pixels = images.float()
    side = max(pixels.shape[2:])
    if side > MAX_THUMBNAIL_SIDE:
        size = [max(round(length * MAX_THUMBNAIL_SIDE / side), 1) for length in pixels.shape[2:]]
        pixels = F.interpolate(pixels, size=size, mode="area")
    pixels = pixels.round().clamp(0, 255).to(torch.uint8)
    colours = pixels.movedim(1, -1) if pixels.shape[1] == 3 else pixels[:, 0]
    numbers: Ints = colours.contiguous().numpy()
    return numbers


# N test samples, K classes, P of them with an image


def save_component_facts(run: Run, components: Components, trainer: pl.Trainer) -> None:
    """Write assembled.json: the DataSpec, the size of the network, the devices, the monitored metric."""
    device = trainer.strategy.root_device
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    content: dict[str, Any] = {
        "data": None if components.spec is None else asdict(components.spec),
        "model": {"name": components.model_name, "parameters": components.trainable_parameters},
        "devices": {"count": trainer.world_size, "kind": kind, "precision": str(trainer.precision)},
        "headline": components.headline,
        "metrics": components.custom_modes,
        "monitor": _monitored(run, trainer),
        "validation_digest": digest_of_split(components, "validation"),
        "steps_per_epoch": components.steps_per_epoch,
        "total_steps": components.total_steps,
    }
    old = run_files.ASSEMBLED.record_or_warn(run.folder) or {}
    if "instead_of_default" in old:  # chosen before the run was resumed
        content |= {key: old[key] for key in ("instead_of_default", "headline")}
    run.write_json(ASSEMBLED, content)
    if isinstance(components.data, DataModule):
        _save_data_files(run, components.data.splits)


def _monitored(run: Run, trainer: pl.Trainer) -> dict[str, str] | None:
    """Return the metric and mode of the Trainer's checkpoints; without checkpoints, those of the configuration."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by its connector
    checkpoint = run.config().checkpoint
    monitored = [callback.monitored for callback in callbacks if isinstance(callback, Checkpointing)]
    return monitored[0] if monitored else {"monitor": str(checkpoint.monitor), "mode": str(checkpoint.mode)}


def _save_data_files(run: Run, parts: Splits) -> None:
    """Write the tokenizer and the list of skipped samples, if there are any."""
    if parts.tokenizer:
        write_atomically(run.tokenizer_path, parts.tokenizer.encode())
    if parts.skipped:
        write_atomically(run.skipped_path, "".join(f"{line}\n" for line in parts.skipped))


def save_test_predictions(run: Run, components: Components, predictions: Predictions) -> None:
    """Write predictions.npz; for classes with thumbnails or sentences of the samples that a report shows."""
    assert components.spec is not None
    digest = digest_of_test_set(components, predictions)
    assert digest is not None
    saved.write_predictions(run.folder, TO_SAVED[components.spec.task](components, predictions, digest))


def _saved_classes(components: Components, predictions: Predictions, digest: str) -> saved.ClassPredictions:
    saved_classes = class_predictions(predictions, digest)
    if not isinstance(components.data, DataModule):
        return saved_classes
    sentences, ids = (
        components.data.splits.test_sentences,
        saved_classes.ids[saved_classes.reported_rows].astype(np.int64),
    )
    pictures = sample_images(components, "test", torch.from_numpy(ids))
    if pictures is not None:
        return replace(saved_classes, pictured=saved_classes.reported_rows, pictures=thumbnails(pictures))
    if sentences:
        shown = np.array([shorten_sentence(sentences[row]) for row in ids], dtype=np.str_)
        return replace(saved_classes, pictured=saved_classes.reported_rows, sentences=shown)
    return saved_classes


def _saved_numbers(components: Components, predictions: Predictions, digest: str) -> saved.RegressionPredictions:
    return saved.RegressionPredictions(
        predicted=predictions.outputs.numpy(),
        targets=predictions.targets.numpy(),
        ids=predictions.ids.numpy().astype(np.int64),
        losses=predictions.losses.numpy(),
        digest=digest,
    )


def _saved_labels(components: Components, predictions: Predictions, digest: str) -> saved.MultilabelPredictions:
    return saved.MultilabelPredictions(
        probabilities=predictions.outputs.numpy(),
        targets=predictions.targets.bool().numpy(),
        ids=predictions.ids.numpy().astype(np.int64),
        losses=predictions.losses.numpy(),
        digest=digest,
    )


TO_SAVED: dict[TaskKind, Callable[[Components, Predictions, str], saved.TestPredictions]] = {
    "multiclass": _saved_classes,
    "binary": _saved_classes,
    "multilabel": _saved_labels,
    "regression": _saved_numbers,
}


def class_predictions(predictions: Predictions, digest_of_test: str) -> saved.ClassPredictions:
    log_probabilities = F.log_softmax(predictions.outputs.float(), dim=1)
    return saved.ClassPredictions(
        log_probabilities=saved.compact_log_probabilities(log_probabilities.numpy()),
        predicted=predictions.outputs.argmax(dim=1).numpy().astype(np.int32),
        targets=predictions.targets.numpy().astype(np.int32),
        ids=predictions.ids.numpy().astype(np.int64),
        losses=predictions.losses.numpy(),
        digest=digest_of_test,
        pictured=np.zeros(0, dtype=np.int64),
        pictures=np.zeros((0, 1, 1), dtype=np.uint8),
    )


def shorten_sentence(sentence: str) -> str:
    return sentence if len(sentence) <= saved.LONGEST_SENTENCE else f"{sentence[: saved.LONGEST_SENTENCE - 4]} ..."


def digest_of_split(components: Components, part: str) -> str | None:
    """Return the SHA-256 of the samples of validation or test; None where they are unknown."""
    if isinstance(components.data, DataModule):
        return splits_digest({part: components.data.splits.by_name()[part]})
    # The splits of a user's own data module are unknown; its digest is that of all of them.
    return None if components.spec is None else hashlib.sha256(f"{part} {components.spec.digest}".encode()).hexdigest()


def digest_of_test_set(components: Components, predictions: Predictions | None) -> str | None:
    """Return the digest of the test set; for a user's own data module, from its digest and the tested targets."""
    if isinstance(components.data, DataModule) or predictions is None:
        return digest_of_split(components, "test")
    own = "" if components.spec is None else components.spec.digest
    return hashlib.sha256(own.encode() + predictions.targets.contiguous().numpy().tobytes()).hexdigest()
