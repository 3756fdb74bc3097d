"""MLflow's server in one process: `python -m pipeline.tracking.ui_server PORT`, the store in the environment.

`mlflow server` imports all of MLflow, checks, and then starts a second process that imports it again: twice the time,
twice the memory, for what one process does as well.
"""

import os
import sys
import uuid

HOST = "127.0.0.1"  # nobody but this machine; MLflow itself refuses other host names then


def main() -> int:
    import uvicorn
    from mlflow import server
    from mlflow.server.handlers import initialize_backend_stores

    uri, artifact_root = os.environ["MLFLOW_BACKEND_STORE_URI"], os.environ.get("MLFLOW_DEFAULT_ARTIFACT_ROOT")
    names = vars(server)  # of the variables in which `mlflow server` hands its options to its workers
    os.environ[names["BACKEND_STORE_URI_ENV_VAR"]] = uri
    os.environ[names["REGISTRY_STORE_URI_ENV_VAR"]] = uri
    os.environ["_MLFLOW_SERVER_BOOT_ID"] = uuid.uuid4().hex
    os.environ["_MLFLOW_IN_JOB_EXECUTOR"] = "false"
    if artifact_root is not None:
        os.environ[names["ARTIFACT_ROOT_ENV_VAR"]] = artifact_root
    initialize_backend_stores(uri, uri, artifact_root)
    uvicorn.run("mlflow.server.fastapi_app:app", host=HOST, port=int(sys.argv[1]), log_level="warning")
    return 0


if __name__ == "__main__":
    sys.exit(main())
