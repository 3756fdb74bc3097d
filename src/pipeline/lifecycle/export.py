"""A run's best network into its MLflow run: `python -m pipeline.lifecycle.export RUN_DIR`.

Started by the process that carries the journal to MLflow, so that neither training nor the metrics wait for it.
"""

import os
import sys
from pathlib import Path

from torch import Tensor, nn

from pipeline.data.datamodule import DataModule
from pipeline.lifecycle.assemble import assemble
from pipeline.lifecycle.judge import best_checkpoint
from pipeline.lifecycle.run import Run
from pipeline.process import ALONE, see_working_directory
from pipeline.tracking import model_store
from pipeline.training import checkpoints
from pipeline.training.learner import Learner


def network_of(run: Run) -> tuple[nn.Module, Tensor] | None:
    """The network with its best weights, ready to be used, and two raw inputs.

    None where module or data are the user's own: what they take is not known here.
    """
    config = run.config()
    config.trainer.update({"devices": 1, "num_nodes": 1, "strategy": "auto"})
    assembly = assemble(config, ALONE)
    chosen = best_checkpoint(run)
    if not isinstance(assembly.module, Learner) or not isinstance(assembly.data, DataModule) or chosen is None:
        return None
    assembly.module.load_state_dict(checkpoints.evaluation_weights(checkpoints.load(chosen)))
    return assembly.module.network.eval(), assembly.data.example(2)


def main() -> int:
    see_working_directory()
    found = network_of(Run(Path(sys.argv[1])))
    if found is not None:
        network, example = found
        # Where to is told through the environment, since an address may hold a password.
        uri, run_id = os.environ["MLFLOW_TRACKING_URI"], os.environ["MLFLOW_RUN_ID"]
        model_store.log_model(uri=uri, run_id=run_id, network=network, example=example)
    return 0


if __name__ == "__main__":
    sys.exit(main())
