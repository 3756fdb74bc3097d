"""What a trial is judged on beside its search: the weights that would be kept, on any part."""

import pytest
import torch

from pipeline.lifecycle.build import Components
from pipeline.lifecycle.final_test import evaluate_splits
from pipeline.training import checkpoints
from pipeline.training.callbacks.averaging import EMA, evaluation_weights_now


def test_parts_are_evaluated_with_the_weights_that_a_checkpoint_would_hold(fit, tmp_path):
    trainer, learner, metrics = fit(tmp_path / "run", epochs=1, callbacks=lambda: [EMA(decay=0.9)])
    weights = evaluation_weights_now(trainer, learner)
    kept = checkpoints.load_checkpoint(checkpoints.list_checkpoints(tmp_path / "run")[0])["evaluation_state_dict"]
    assert all(torch.equal(weights[name], kept[name]) for name in kept)
    data = trainer.datamodule
    found = evaluate_splits(trainer, Components(learner, data, data.spec, 20, 20), weights, ["train", "validation"])
    assert found["validation"]["accuracy"] == pytest.approx(dict(metrics.named("val/accuracy"))[20])
    assert found["validation"]["loss"] == pytest.approx(dict(metrics.named("val/loss"))[20], rel=1e-5)
    assert found.keys() == {"train", "validation"} and 0 < found["train"]["accuracy"] <= 1
