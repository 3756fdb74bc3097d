"""The servers of docs/tracking-server.md, for real and on this machine: PostgreSQL, S3, MLflow before them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
START_SECONDS = 120.0
ADMIN, PASSWORD = "admin", "a-long-secret-for-tests"
BUCKET = "mlflow"
S3_KEY = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A command that listens on `port`; it can be killed and started again on the same port."""

    command: list[str]
    folder: Path
    environment: dict[str, str]
    port: int
    answers: Callable[["Server"], bool]
    process: "subprocess.Popen[bytes] | None" = field(default=None)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with (self.folder / f"server-{self.port}.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers(self):
            assert self.process.poll() is None and time.monotonic() < deadline, self.log()
            time.sleep(0.1)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """All of its processes."""
        if self.process is not None:
            os.killpg(self.process.pid, number)
            self.process.wait(20)
            self.process = None

    def log(self) -> str:
        return (self.folder / f"server-{self.port}.log").read_text(errors="replace")[-4_000:]


def answers_http(path: str) -> Callable[[Server], bool]:
    def answers(server: Server) -> bool:
        try:
            with urllib.request.urlopen(server.uri + path, timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    return answers


@contextmanager
def postgres(folder: Path) -> Iterator[tuple[str, str, Server]]:
    """(address, password, server) of an empty PostgreSQL database of Debian's. Skips the test where there is none."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not programs:
        pytest.skip("no PostgreSQL server here (Debian, Ubuntu: apt-get install postgresql)")
    # It refuses to work as root. A folder of its own, since pytest's are closed to other users.
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    data = Path(subprocess.check_output([*as_user, "mktemp", "-d"], text=True).strip())
    port, password = free_port(), "a-database-secret"
    try:
        make = 'cat > "$1/password" && "$0" -U mlflow -A scram-sha-256 --pwfile "$1/password" -D "$1/db"'
        initdb = [*as_user, "sh", "-c", make, str(programs[-1] / "initdb"), str(data)]
        subprocess.run(initdb, input=password, text=True, check=True, capture_output=True)
        options = ["-c", f"port={port}", "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={data}"]
        ready = [str(programs[-1] / "pg_isready"), "-q", "-h", "127.0.0.1", "-p"]
        server = Server(
            [*as_user, str(programs[-1] / "postgres"), "-D", str(data / "db"), *options],
            folder,
            {},
            port,
            lambda each: subprocess.run([*ready, str(each.port)], check=False).returncode == 0,
        )
        server.start()
        try:
            create = [str(programs[-1] / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "mlflow"]
            subprocess.run(create, env=os.environ | {"PGPASSWORD": password}, check=True)
            yield f"postgresql://mlflow@127.0.0.1:{port}/mlflow", password, server
        finally:
            server.kill(signal.SIGINT)
    finally:
        shutil.rmtree(data, ignore_errors=True)


@contextmanager
def s3(folder: Path) -> Iterator[str]:
    """The address of an S3 server (moto's) with one empty bucket."""
    pytest.importorskip("moto", reason="no moto here: pip install 'moto[s3]'")
    boto3 = pytest.importorskip("boto3")
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = Server(command, folder, S3_KEY, port, lambda each: _takes_connections(each.port))
    server.start()
    try:
        client = boto3.client(
            "s3",
            endpoint_url=server.uri,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        client.create_bucket(Bucket=BUCKET)
        yield server.uri
    finally:
        server.kill()


@contextmanager
def tracking_server(folder: Path) -> Iterator[Server]:
    """MLflow as docker/tracking-server.sh starts it, over PostgreSQL and S3, with accounts."""
    pytest.importorskip("psycopg", reason="no psycopg here: pip install 'pipeline[server]'")
    pytest.importorskip("flask_wtf", reason="no Flask-WTF here: pip install 'pipeline[server]'")
    with ExitStack() as stack:
        database, password, _ = stack.enter_context(postgres(folder))
        endpoint = stack.enter_context(s3(folder))
        port = free_port()
        environment = S3_KEY | {
            "PYTHON": sys.executable,
            "PORT": str(port),
            "PGPASSWORD": password,
            "MLFLOW_BACKEND_STORE_URI": database,
            "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{BUCKET}",
            "MLFLOW_S3_ENDPOINT_URL": endpoint,
            "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "any long random text",
        }
        script = ["sh", str(ROOT / "docker" / "tracking-server.sh")]
        server = Server(script, folder, environment, port, answers_http("/health"))
        server.start()
        stack.callback(server.kill)
        yield server


def _takes_connections(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


@contextmanager
def plain_server(folder: Path) -> Iterator[Server]:
    """MLflow's server over a sqlite database, without accounts, with its files in a folder."""
    port = free_port()
    environment = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_ARTIFACTS_DESTINATION": f"{folder}/files",
    }
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    server = Server(command, folder, environment, port, answers_http("/health"))
    server.start()
    try:
        yield server
    finally:
        server.kill()
