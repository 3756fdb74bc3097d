"""Log a run's best model to MLflow: `python -m pipeline.lifecycle.export RUN_DIR [--made-here | PACKAGE ...]`.

The process that sends the journal starts it, so neither training nor the metrics wait for it.
"""

import os
import sys
from typing import NamedTuple

from torch import Tensor, nn

from pipeline.data.datamodule import DataModule
from pipeline.errors import DONE, FAILED, TrackingError, UserError
from pipeline.lifecycle.final_test import checkpoint_to_evaluate
from pipeline.lifecycle.load_run import load_run
from pipeline.runs.run_directory import Run
from pipeline.system.process import add_working_directory_to_path
from pipeline.system.streams import print_labelled
from pipeline.tracking.mlflow import models
from pipeline.tracking.mlflow.models import TextPreprocessing
from pipeline.training import checkpoints
from pipeline.training.learner import Learner


class ExportedModel(NamedTuple):
    """The network with its best weights; two raw inputs; for text, what turns sentences into inputs."""

    network: nn.Module
    example: Tensor
    reading: TextPreprocessing | None


def load_exported_model(run: Run) -> ExportedModel | None:
    """Load the best model of a run; None if module or data are the user's own, whose inputs are unknown."""
    _, components = load_run(run)
    checkpoint = checkpoint_to_evaluate(run)
    if not isinstance(components.module, Learner) or not isinstance(components.data, DataModule) or checkpoint is None:
        return None
    components.module.load_state_dict(checkpoints.evaluation_weights(checkpoints.load_checkpoint(checkpoint)))
    parts = components.data.splits
    reading = TextPreprocessing(parts.tokenizer, parts.test_sentences[:2]) if parts.tokenizer else None
    return ExportedModel(components.module.network.eval(), components.data.example(2), reading)


def main() -> int:
    add_working_directory_to_path()
    try:
        model = load_exported_model(Run.from_arguments(sys.argv[1:]))
        if model is not None:
            # The address comes through the environment, because it may hold a password.
            uri, run_id = os.environ["MLFLOW_TRACKING_URI"], os.environ["MLFLOW_RUN_ID"]
            models.log_model(uri=uri, run_id=run_id, **model._asdict())
    except (UserError, TrackingError) as problem:
        print_labelled("error", str(problem), sys.stderr)
        return FAILED
    return DONE


if __name__ == "__main__":
    sys.exit(main())
