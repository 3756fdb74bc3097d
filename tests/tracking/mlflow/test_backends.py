"""What the light client makes of a server's answers, of names and passwords, and of certificates."""

import base64
import datetime
import ipaddress
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.tracking.mlflow import http_client
from pipeline.tracking.mlflow.backends import RestBackend
from pipeline.tracking.mlflow.mlflow_client import Refused, Unavailable

Answer = tuple[int, Any]
RUN = {"run": {"info": {"run_id": "r", "experiment_id": "1", "artifact_uri": "mlflow-artifacts:/1/r/artifacts"}}}


class Stand(ThreadingHTTPServer):
    """Answers as told, and remembers who asked for what."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Visitor)
        self.answer: Answer = (200, RUN)
        self.seen: list[tuple[str, str | None, bytes]] = []  # path, Authorization, body

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Visitor(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stand

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.seen.append((self.path, self.headers["Authorization"], body))
        status, content = self.server.answer
        data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = self.path.endswith("run_id=goodbye")  # without a word, as after a pause

    def do_POST(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Requests are told by `seen`."""


@pytest.fixture
def stand() -> Iterator[Stand]:
    with Stand() as stand:
        threading.Thread(target=stand.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield stand
        stand.shutdown()


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No credentials of whoever runs the tests; the home directory is an empty one."""
    for name in list(os.environ):
        if name.startswith("MLFLOW_TRACKING"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_without_a_user_name_no_credentials_are_sent(stand: Stand) -> None:
    RestBackend(stand.uri).get_run("r")
    assert stand.seen == [("/api/2.0/mlflow/runs/get?run_id=r", None, b"")]


def test_credentials_come_from_the_environment_and_mlflows_own_file(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, nobody: Path
) -> None:
    backend = RestBackend(stand.uri)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok")
    backend.get_run("r")
    (nobody / ".mlflow").mkdir()
    file = nobody / ".mlflow" / "credentials"
    file.write_text("[mlflow]\nmlflow_tracking_username = ann\nmlflow_tracking_password = 50%:größe\n")
    backend.get_run("r")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "mended")
    backend.get_run("r")
    assert [header for _, header, _ in stand.seen] == ["Bearer tok", basic("ann", "50%:größe"), basic("ann", "mended")]


def test_a_server_that_wants_credentials_is_unavailable_until_it_gets_them_and_the_error_says_how(stand: Stand) -> None:
    stand.answer = (401, "You are not authenticated.")
    with pytest.raises(
        Unavailable, match=r"401.*not authenticated.*set MLFLOW_TRACKING_USERNAME.*~/.mlflow/credentials"
    ):
        RestBackend(stand.uri.replace("http://", "http://me:secret@")).get_run("r")


@pytest.mark.parametrize(
    "answer, kind",
    [
        ((400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "no"}), Refused),
        ((404, "<html>nothing here</html>"), Unavailable),  # of a proxy whose server is away
        ((429, {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "later"}), Unavailable),
        ((503, "upstream is down"), Unavailable),
        ((200, "<html>please log in</html>"), Unavailable),
        ((302, ""), Unavailable),
    ],
)
def test_permanent_errors_are_distinguished_from_temporary_ones(
    stand: Stand, answer: Answer, kind: type[Exception]
) -> None:
    stand.answer = answer
    with pytest.raises(kind) as caught:
        RestBackend(stand.uri).get_run("r")
    assert caught.type is kind and str(answer[0]) in str(caught.value)


def test_a_missing_run_or_experiment_is_none(stand: Stand) -> None:
    stand.answer = (404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no run"})
    assert RestBackend(stand.uri).get_run("r") is None
    assert RestBackend(stand.uri).get_experiment("e") is None


def test_a_connection_closed_while_idle_is_opened_again(stand: Stand) -> None:
    backend = RestBackend(stand.uri)
    for run_id in ("goodbye", "r", "goodbye", "r"):
        assert backend.get_run(run_id) is not None


def test_a_file_is_sent_through_the_server_unchanged(stand: Stand, tmp_path: Path) -> None:
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "größe 100%.bin").write_bytes(bytes(range(256)))
    (tmp_path / "folder" / "inner" / "a").write_text("x")
    backend = RestBackend(stand.uri + "/prefix/")
    backend.log_artifact("r", str(tmp_path / "größe 100%.bin"), "figures")
    backend.log_artifact("r", str(tmp_path / "folder"), None)
    sent = [(path, body) for path, _, body in stand.seen if "mlflow-artifacts" in path]
    place = "/prefix/api/2.0/mlflow-artifacts/artifacts/1/r/artifacts"
    assert sent == [
        (f"{place}/figures/gr%C3%B6%C3%9Fe%20100%25.bin", bytes(range(256))),
        (f"{place}/folder/inner/a", b"x"),
    ]


def test_a_certificate_is_checked_and_may_be_named(
    stand: Stand, own_certificate: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = own_certificate()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    stand.socket = context.wrap_socket(stand.socket, server_side=True)
    backend = RestBackend(stand.uri.replace("http://", "https://"))
    with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
        backend.get_run("r")
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
    assert backend.get_run("r") is not None
    monkeypatch.delenv("MLFLOW_TRACKING_SERVER_CERT_PATH")
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    assert RestBackend(backend.uri).get_run("r") is not None


@pytest.fixture
def own_certificate(tmp_path: Path) -> Callable[[], Path]:
    """Makes one for 127.0.0.1, signed by itself: a file with its key and itself."""

    def make() -> Path:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        now = datetime.datetime.now(datetime.UTC)
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
        built = builder.not_valid_after(now + datetime.timedelta(days=1)).add_extension(address, critical=False)
        plain, pem = serialization.NoEncryption(), serialization.Encoding.PEM
        file = tmp_path / "certificate.pem"
        file.write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
            + built.sign(key, hashes.SHA256()).public_bytes(pem)
        )
        return file

    return make


def test_files_with_another_protocol_are_left_to_mlflows_client(monkeypatch: pytest.MonkeyPatch) -> None:
    assert http_client.is_directly_reachable("https://mlflow.example")
    monkeypatch.setenv("MLFLOW_TRACKING_AWS_SIGV4", "true")
    assert not http_client.is_directly_reachable("https://mlflow.example")
    monkeypatch.delenv("MLFLOW_TRACKING_AWS_SIGV4")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:3128")
    assert not http_client.is_directly_reachable("https://mlflow.example")
    monkeypatch.setenv("no_proxy", "mlflow.example")
    assert http_client.is_directly_reachable("https://mlflow.example")


def test_reaching_a_server_imports_nothing_heavy() -> None:
    code = (
        "import sys; import pipeline.tracking.shipping.sync_worker\n"
        "from pipeline.tracking.mlflow.store import MlflowStore\n"
        "for uri in ('http://127.0.0.1:9', 'sqlite:////tmp/never.db'): MlflowStore(uri, None, shared=True)\n"
        "print(sorted({'mlflow', 'sqlalchemy', 'numpy', 'pandas', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
