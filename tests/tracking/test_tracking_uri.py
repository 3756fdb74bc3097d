from pathlib import Path

import pytest

from pipeline.tracking import tracking_uri


def test_a_relative_database_is_found_from_any_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert tracking_uri.absolute_uri("sqlite:///runs/mlflow.db") == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert tracking_uri.absolute_uri("sqlite:////data/mlflow.db") == "sqlite:////data/mlflow.db"
    assert tracking_uri.absolute_uri("http://host:5000") == "http://host:5000"


@pytest.mark.parametrize(
    "text, shown",
    [
        ("postgresql://me:se@cret@db.local/mlflow", "postgresql://***@db.local/mlflow"),
        (
            "postgresql://db/mlflow?user=me&password=secret&ssl=on",
            "postgresql://db/mlflow?user=me&password=***&ssl=on",
        ),
        (
            "cannot reach https://token@host/api and http://a:b@c",
            "cannot reach https://***@host/api and http://***@c",
        ),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("https://host:5000/#/experiments", "https://host:5000/#/experiments"),
        ("http://ann:hunter2/pw@127.0.0.1:5640", "http://***@127.0.0.1:5640"),
        ("error: http://ann:hun@ter:2@a@host/x is no address", "error: http://***@host/x is no address"),
        ("http://host/?token=abc&x=1", "http://host/?token=***&x=1"),
        ("s3://bucket/x?X-Amz-Signature=abc&sig=d;API_KEY=e", "s3://bucket/x?X-Amz-Signature=***&sig=***;API_KEY=***"),
        ("https://host/a?access_key=abc, or https://host/b", "https://host/a?access_key=*** or https://host/b"),
        ("https://host/a?design=blue&signal=3", "https://host/a?design=blue&signal=3"),
    ],
)
def test_passwords_are_never_shown(text: str, shown: str) -> None:
    assert tracking_uri.redact(text) == shown


def test_files_of_a_local_store_are_where_the_user_says_or_beside_the_database() -> None:
    assert tracking_uri.artifact_root("sqlite:////data/mlflow.db", None) == "file:///data/mlartifacts"
    assert tracking_uri.artifact_root("sqlite:////data/mlflow.db", "/big disk") == "file:///big%20disk"
    assert tracking_uri.artifact_root("postgresql://db/mlflow", "s3://bucket/files") == "s3://bucket/files"
    assert tracking_uri.artifact_root("postgresql://db/mlflow", None) is None
    assert tracking_uri.artifact_root("http://host:5000", "/big disk") is None
