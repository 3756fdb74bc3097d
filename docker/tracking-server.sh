#!/bin/sh
# MLflow's server for many machines: accounts, a PostgreSQL database, files in S3. What compose.yaml starts in its
# container, and what docs/tracking-server.md starts by hand. Nothing secret stands on its command line: it is all
# in the environment.
set -eu

: "${MLFLOW_BACKEND_STORE_URI:?the database, such as postgresql://mlflow@127.0.0.1:5432/mlflow (its password: PGPASSWORD)}"
: "${MLFLOW_ARTIFACTS_DESTINATION:?where files are kept, such as s3://mlflow}"
: "${MLFLOW_AUTH_ADMIN_PASSWORD:?the password of the user admin, 12 characters or more}"
: "${MLFLOW_FLASK_SERVER_SECRET_KEY:?any long random text; it must stay the same from start to start}"

# MLflow takes the settings of its accounts from a file alone. They live in the same database.
# A password is checked in 0.2 s; for a minute after that it is remembered.
MLFLOW_AUTH_CONFIG_PATH="$(mktemp)"
cat >"$MLFLOW_AUTH_CONFIG_PATH" <<SETTINGS
[mlflow]
default_permission = ${DEFAULT_PERMISSION:-READ}
database_uri = $MLFLOW_BACKEND_STORE_URI
admin_username = admin
auth_cache_ttl_seconds = 60
SETTINGS
export MLFLOW_AUTH_CONFIG_PATH
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false # else a dozen processes for things that training has not
export MLFLOW_DISABLE_TELEMETRY=true

exec "${PYTHON:-python}" -m mlflow server --app-name basic-auth --host "${HOST:-127.0.0.1}" --port "${PORT:-5000}" \
    --workers "${WORKERS:-1}" ${ALLOWED_HOSTS:+--allowed-hosts "$ALLOWED_HOSTS"}
