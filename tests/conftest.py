"""Real parts that several tests use."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Mirror(ThreadingHTTPServer):
    """An HTTP server of a few files, which can be told to misbehave.

    `faults` are spent one a request: an HTTP status such as 500, "cut" (half of the bytes, then the
    connection is closed) or "hang" (half of the bytes, then nothing until the server is closed).
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
