"""What holds for every test, and real parts that several of them use."""

import hashlib
import ipaddress
import os
import pickle
import random
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from tests import fork_server

SHIPPED_CONF = Path(__file__).parents[1] / "conf"

# As the launcher does for training; it must stand before torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cold", action="store_true", help="start every program under test from nothing")
    parser.addoption("--shuffle", type=int, metavar="SEED", help="modules, and tests in them, in an order of this seed")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Shuffle the tests if that is asked for, and skip those that need a GPU where there is none."""
    if config.getoption("shuffle") is not None:
        shuffle(items, config.getoption("shuffle"))
    skip_without_gpu(items)


def shuffle(items: list[pytest.Item], seed: int) -> None:
    """Put the modules into a random order, and the tests of each: what a module's fixture made is still shared."""
    drawn = random.Random(seed)
    places = {path: drawn.random() for path in dict.fromkeys(item.path for item in items)}
    items.sort(key=lambda item: (places[item.path], drawn.random()))


def skip_without_gpu(items: list[pytest.Item]) -> None:
    """Ask torch for a GPU only if a test needs one."""
    needing_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not needing_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in needing_gpu:
            item.add_marker(pytest.mark.skip(reason="there is no CUDA device here"))


@pytest.fixture(scope="session", autouse=True)
def own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The user's cache and key stay as they are, and `make test` hands nothing on to the programs under test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        for name in list(os.environ):
            if name.startswith(("MAKE", "MFLAGS", "PIPELINE_MAKE_")):
                patch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A shell starts a job in the background with Ctrl-C ignored, and the programs under test would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def warm_starts(
    pytestconfig: pytest.Config, own_environment: None, interruptible: None
) -> Iterator[fork_server.Server | None]:
    """Programs under test come from a fork server, which starts when the first of them is asked for."""
    if pytestconfig.getoption("cold") or not fork_server.is_possible():
        yield None
        return
    server = fork_server.Server()
    with fork_server.programs_come(fork_server.popen_of(server)):
        yield server
    server.end()


@pytest.fixture(scope="session", autouse=True)
def shipped_options_are_composed_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hydra takes a sixth of a second for a configuration, and a thousand tests ask it for the same ones.

    A test gets a copy of its own. A configuration in which files of a test take part is composed each time.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "composed"
    folder.mkdir(exist_ok=True)
    real = hydra.compose

    def compose(config_name: str | None = None, overrides: list[str] | None = None, **options: Any) -> DictConfig:
        places = GlobalHydra.instance().config_loader().get_search_path().get_path()
        if {place.path for place in places} != {"pkg://hydra.conf", str(SHIPPED_CONF), "structured://"}:
            return real(config_name, overrides or [], **options)
        key = repr((config_name, overrides, sorted(options.items())))
        file = folder / hashlib.sha256(key.encode()).hexdigest()
        if not file.exists():
            part = file.with_suffix(f".{os.getpid()}")
            part.write_bytes(pickle.dumps(real(config_name, overrides or [], **options)))
            part.replace(file)
        return pickle.loads(file.read_bytes())  # noqa: S301 - of this session's own making

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hydra, "compose", compose)
        yield


@pytest.fixture(autouse=True)
def cold_starts(request: pytest.FixtureRequest) -> Iterator[None]:
    """In a test marked `cold` programs start as for a user: from nothing."""
    is_cold = any(request.node.get_closest_marker(name) for name in ("cold", "gpu"))
    with fork_server.programs_come(fork_server.FROM_NOTHING) if is_cold else nullcontext():
        yield


@pytest.fixture(autouse=True)
def no_store_from_another_test() -> Iterator[None]:
    """mlflow.set_tracking_uri puts the address into the environment, where it counts for all that comes after."""
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches for the network fails, however well the code under test would bear it."""
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not is_local(address[0]):
            pytest.fail(f"the test reached for {address[0]}; use the mirror fixture instead", pytrace=True)
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)


def is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the test: what it writes to `runs/` is nobody else's."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Mirror(ThreadingHTTPServer):
    """An HTTP server of a few files, which can be told to misbehave.

    `faults` are spent one a request: an HTTP status such as 500, "cut" (half of the bytes, then the
    connection is closed), "hang" (half of the bytes, then nothing until the server is closed) or "drip" (a byte now and
    then).
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: list[int | str] = []
        self.ranges = True  # whether it can send a part of a file
        self.requests: list[tuple[str, str | None]] = []  # path and Range of each
        self.half_sent = threading.Event()
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        mirror = self.server
        wanted = self.headers["Range"]
        mirror.requests.append((self.path, wanted))
        fault = mirror.faults.pop(0) if mirror.faults else None
        if isinstance(fault, int) or self.path not in mirror.files:
            self.send_error(fault if isinstance(fault, int) else 404)
            return
        body = mirror.files[self.path]
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and mirror.ranges else 0
        if start > 0 and start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        rest = body[start:]
        if fault == "drip":
            while not mirror.closing.wait(0.02):
                self.wfile.write(rest[:1])
        self.wfile.write(rest[: len(rest) // 2] if fault else rest)
        self.wfile.flush()
        if fault == "hang":
            mirror.half_sent.set()
            mirror.closing.wait(timeout=30)

    def log_message(self, *_: object) -> None:
        """Requests are told by `requests`, not on stderr."""


def running_mirror() -> Iterator[Mirror]:
    with Mirror() as mirror:
        thread = threading.Thread(target=mirror.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield mirror
        mirror.closing.set()
        mirror.shutdown()
        thread.join()


mirror = pytest.fixture(running_mirror, name="mirror")
another_mirror = pytest.fixture(running_mirror, name="another_mirror")
