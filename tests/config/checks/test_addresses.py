"""Addresses that lead nowhere, and passwords that would be kept."""

import shlex
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.config.checks.check_config import check_config
from pipeline.config.compose import compose, to_yaml
from pipeline.errors import ConfigError
from pipeline.search.plan import check_storage_address


def accepted(*overrides: str) -> str:
    """The configuration as it is written. Raises ConfigError."""
    composed = compose(overrides)
    check_config(composed.config, composed.shipped)
    return to_yaml(composed.config)


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        accepted(*overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        "http://ann:hunter2/pw@127.0.0.1:5640",
        "http://ann:hunter2@127.0.0.1:5640",
        "http://hunter2@host",
        "http://hunter2@host:5000/prefix",
        "http://ann/hunter2@host",
        "https://ann:hunter2?@host",
        "https://ann:hunter2#@host",
        "https://ann:hunter2@@host",
        "https://host/?token=hunter2",
        "https://host/?a=b&api_key=hunter2",
        "https://host/?access-key=hunter2",
        "https://host/x?X-Amz-Signature=hunter2",
        "https://host/x?sig=hunter2",
        "postgresql://me:hunter2@db/mlflow",
        "postgresql://me:hunter2/x@db/mlflow",
        "postgresql://me:se@hunter2@db/mlflow",
        "postgresql://db/mlflow?user=me&password=hunter2",
        "postgresql://db/mlflow?sslpassword=hunter2",
        "mysql+pymysql://me:hunter2@db/mlflow",
    ],
)
@pytest.mark.parametrize("key", ["tracking.uri", "tracking.artifacts"])
def test_a_password_in_an_address_is_refused_without_repeating_it(key: str, uri: str) -> None:
    said = refusal(f'{key}="{uri}"')
    assert said.startswith(f"{key} ") and "would be kept in the run directory" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "uri, remedy",
    [
        ("http://ann:pw@host", "MLFLOW_TRACKING_PASSWORD"),
        ("postgresql://ann:pw@host/db", "PGPASSWORD"),
        ("mysql://ann:pw@host/db", "'tracking.uri=${oc.env:NAME}'"),
    ],
)
def test_with_what_to_do_instead(uri: str, remedy: str) -> None:
    assert remedy in refusal(f'tracking.uri="{uri}"')


@pytest.mark.parametrize(
    "override",
    [
        "launch=slurm 'launch.setup=[\"export MLFLOW_TRACKING_PASSWORD=hunter2\"]'",
        "launch=slurm launch.setup=['HF_TOKEN=hunter2 true']",
        "launch=kubernetes launch.environment={MLFLOW_TRACKING_PASSWORD:hunter2}",
        "launch=kubernetes launch.environment={WANDB_API_KEY:hunter2}",
        "+data.source.mirror='https://a:hunter2@host'",
        "+trainer.logger='https://host/?token=hunter2'",
    ],
)
def test_a_password_is_found_wherever_it_stands(override: str) -> None:
    said = refusal(*(word.strip("'") if word.startswith("'") else word for word in override.split(" ", 1)))
    assert "holds a user, a password or a token" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "uri, expected",
    [
        ("htp://host", "did you mean  tracking.uri=http://host"),
        ("htps://host:5000", "did you mean  tracking.uri=https://host:5000"),
        ("postgres://host/db", "did you mean  tracking.uri=postgresql://host/db"),
        ("sqlte:///a.db", "did you mean  tracking.uri=sqlite:///a.db"),
        ("runs/mlflow.db", "expected an address that begins with one of http://"),
        ("localhost:5000", "expected an address that begins with one of http://"),
        ("http:host", "expected an address that begins with one of http://"),
        ("http://", "expected an address that begins with one of http://"),
        ("file:///runs", "expected an address that begins with one of http://"),
        ("sqlite://runs/mlflow.db", "expected a file behind three slashes"),
        ("sqlite:///", "expected a file behind three slashes"),
        ("http://host:99999", "its host or port cannot be read"),
        ("http://host:port", "its host or port cannot be read"),
        ("http://host:-1", "its host or port cannot be read"),
        ("http://host:0", "0 is not a valid port"),
        ("http://:5000", "there is no host in it"),
        ("http:///path", "there is no host in it"),
        ("http://[::1", "its host or port cannot be read"),
        ("http://ho st:5000", "a blank or another character"),
        ("http://host:5000 ", "a blank or another character"),
        (" http://host:5000", "expected an address that begins with one of http://"),
        ("http://host\\\\path", "a blank or another character"),
        ("postgresql://me@host:99999/db", "its host or port cannot be read"),
        ("postgresql://me@host/d@b", "there is an @ after the host"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused(uri: str, expected: str) -> None:
    said = refusal(f'tracking.uri="{uri}"')
    assert said.startswith("tracking.uri=") and expected in said


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:5000",
        "https://mlflow.example:5000/prefix/",
        "https://mlflow_server:5000",
        "http://[::1]:5000",
        "postgresql://me@db:5432/mlflow",
        "postgresql://me@a.b-c/mlflow?sslmode=require",
        "postgresql:///mlflow?host=/var/run/postgresql",
        "mysql+pymysql://me@db/mlflow",
        "sqlite:////home/a:b@c/mlflow.db",
        "sqlite:///my runs/mlflow.db",
    ],
)
def test_an_address_without_fault_passes(uri: str) -> None:
    assert accepted(f'tracking.uri="{uri}"')


@pytest.mark.parametrize(
    "place", ["s3://bucket/a@b", "gs://bucket", "wasbs://box@account.blob.core.windows.net/x", "a b"]
)
def test_so_does_a_place_for_files(place: str) -> None:
    assert accepted(f'tracking.artifacts="{place}"')


def test_a_place_for_files_of_an_unknown_kind_does_not() -> None:
    assert "s33:// is not known\n  did you mean  s3:// " in refusal("tracking.artifacts=s33://bucket")


@pytest.mark.parametrize(
    "address", ["postgresql://me:hunter2@h/d", "postgresql://me:hunter2/x@h/d", "http://hunter2@h"]
)
def test_nor_does_a_password_pass_where_trials_are_kept(address: str) -> None:
    with pytest.raises(ConfigError, match=r"search\.storage") as caught:
        check_storage_address(address)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--cfg", "job"),
        ("--cfg", "job", "--resolve"),
        (),
        ("data.batch_size=x",),
        ("tracking.artifacts=http://ann:hunter2/pw@h", "tracking.uri=3"),
        ("model=http://ann:hunter2/pw@h",),
        ("+seed=http://ann:hunter2/pw@h",),
        ("http://ann:hunter2/pw@h",),
    ],
)
def test_nothing_that_is_printed_repeats_one(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", "tracking.uri=http://ann:hunter2/pw@127.0.0.1:5640", *arguments])
    printed = capsys.readouterr()
    assert printed.out + printed.err and "hunter2" not in printed.out + printed.err


class TestEnvironment:
    @pytest.fixture(autouse=True)
    def variables(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("STORE", "http://ann:hunter2@127.0.0.1:5000")
        monkeypatch.setenv("TOKEN", "hunter2")
        monkeypatch.setenv("RATE", "0.5")
        monkeypatch.setenv("FOLDER", str(tmp_path))

    def test_what_comes_out_of_it_stays_as_it_is_written(self) -> None:
        written = accepted("tracking.uri='${oc.env:STORE}'", "data.root='${oc.env:FOLDER}'", "name='a-${oc.env:TOKEN}'")
        assert "uri: ${oc.env:STORE}" in written
        assert "root: ${oc.env:FOLDER}" in written
        assert "hunter2" not in written

    def test_also_through_other_keys_and_in_the_middle_of_a_text(self) -> None:
        written = accepted("+token='${oc.env:TOKEN}'", "tracking.experiment='x-${token}'")
        assert "experiment: x-${oc.env:TOKEN}" in written and "hunter2" not in written

    def test_a_default_is_kept_with_it(self) -> None:
        assert 'experiment: ${oc.env:SURELY_NOT,"a b"}' in accepted("tracking.experiment='${oc.env:SURELY_NOT,a b}'")

    def test_a_number_is_a_setting_and_frozen(self) -> None:
        assert "learning_rate: 0.5" in accepted("optimizer.learning_rate='${oc.decode:${oc.env:RATE}}'")

    def test_a_text_stays_a_text(self) -> None:
        written = accepted("tracking.experiment='${oc.decode:${oc.env:TOKEN}}'")
        assert "experiment: ${oc.decode:${oc.env:TOKEN}}" in written

    def test_it_is_there_where_it_is_used(self) -> None:
        assert compose(["tracking.uri='${oc.env:STORE}'"]).config.tracking.uri == "http://ann:hunter2@127.0.0.1:5000"

    def test_and_found_wrong_without_being_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STORE", "http://ann:hunter2/pw@127.0.0.1:5640")
        said = refusal("tracking.uri='${oc.env:STORE}'")
        assert said.startswith("tracking.uri=http://***: its host or port cannot be read") and "hunter2" not in said


@pytest.mark.parametrize(
    "typed, key, instead",
    [
        ("launch=slurm 'launch.setup=[\"export X=${oc.env:TOKEN}\"]'", "launch.setup.0", "write $TOKEN,"),
        ("launch=slurm 'launch.setup=[\"export X=${oc.env:TOKEN,none}\"]'", "launch.setup.0", "write $TOKEN,"),
        ("+t='${oc.env:TOKEN}' launch=slurm 'launch.setup=[\"X=${t}\"]'", "launch.setup.0", "write $TOKEN,"),
        ("launch=slurm '+launch.options.comment=${oc.env:TOKEN}'", "launch.options.comment", 'comment="${TOKEN}"'),
        ("launch=slurm 'launch.account=\"${oc.decode:${oc.env:TOKEN}}\"'", "launch.account", 'account="${TOKEN}"'),
        (
            "launch=kubernetes 'launch.environment={X:\"${oc.env:TOKEN}\"}'",
            "launch.environment.X",
            "{TOKEN: my-secret/",
        ),
        ("launch=kubernetes 'launch.image=\"host/x:${oc.env:TOKEN}\"'", "launch.image", 'image="host/x:${TOKEN}"'),
        ("launch=kubernetes 'launch.pod={hostname:\"${oc.env:TOKEN}\"}'", "launch.pod.hostname", 'hostname="${TOKEN}"'),
        ("launch=torchrun 'launch.rendezvous=\"${oc.env:TOKEN}:29400\"'", "launch.rendezvous", '"${TOKEN}:29400"'),
    ],
)
def test_a_launcher_writes_nothing_down_that_is_out_of_the_environment(
    typed: str, key: str, instead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "hunter2")
    said = refusal(*shlex.split(typed))
    assert said.startswith(f"{key} is ") and instead in said and "hunter2" not in said


def test_but_a_number_of_it_which_is_a_setting_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODES", "2")
    assert "nodes: 2" in accepted("launch=slurm", "launch.nodes='${oc.decode:${oc.env:NODES}}'")
