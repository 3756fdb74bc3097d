"""A search as an array of jobs of a cluster, each with a worker: they come and go, and need nobody to watch them.

`python -m pipeline.search.job_array FOLDER` is what a job runs.
"""

import sys
from pathlib import Path
from typing import Any

import optuna

from pipeline.config import instantiate
from pipeline.config.frozen import TrustPolicy
from pipeline.errors import RunError
from pipeline.search import directory as folders
from pipeline.search import plan as plans
from pipeline.search import session
from pipeline.search import study as studies
from pipeline.search.plan import Plan
from pipeline.system.process import add_working_directory_to_path, leave_slurm_array, module_command


def submit(plan: Plan, folder: Path) -> int:
    """The exit code. Raises RunError while its jobs are under way."""
    launcher: Any = instantiate.instantiate(plan.config.launch, plan.config)
    state = launcher.state(folder)
    if state is not None:
        raise RunError(f"the search {folder.name} is under way already ({state}); another one needs another name=")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    plan.save(folder)
    folders.open_again(folder)
    studies.create(plan, folder)
    command = module_command("pipeline.search.job_array", str(folder), *plan.trust.arguments(folder))
    return int(launcher.run_workers(command, int(plan.settings.workers), folder))


def main(folder: Path, trust: TrustPolicy) -> int:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    add_working_directory_to_path()
    return session.attend(plans.load(folder, trust), folder, [leave_slurm_array()])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), TrustPolicy.from_arguments(sys.argv[2:])))
