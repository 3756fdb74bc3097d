# MLflow's server with what it needs for PostgreSQL, S3 and accounts; compose.yaml builds and starts it.
ARG PYTHON=3.11.13-slim-bookworm
FROM python:${PYTHON}
ENV PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY constraints.txt /tmp/
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt mlflow boto3 Flask-WTF "psycopg[binary]"
RUN useradd --uid 1000 --create-home mlflow
USER mlflow
WORKDIR /home/mlflow
COPY docker/tracking-server.sh docker/make_bucket.py ./
CMD ["sh", "tracking-server.sh"]
