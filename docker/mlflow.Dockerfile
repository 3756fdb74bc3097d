# MLflow's server with what it needs for PostgreSQL, S3 and accounts; compose.yaml builds and starts it.
FROM python:3.11.13-slim-bookworm@sha256:86adf8dbadc3d6e82ee5dd2c74bec2e1c2467cdad47886280501df722372d2e1
ENV PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY constraints/server.txt /tmp/
RUN pip install --no-cache-dir --require-hashes --no-deps --requirement /tmp/server.txt
RUN useradd --uid 1000 --create-home mlflow
USER mlflow
WORKDIR /home/mlflow
COPY docker/tracking-server.sh docker/make_bucket.py ./
CMD ["sh", "tracking-server.sh"]
