"""The way to a server, on which anything can happen to what is sent."""

import socket
import threading
import time
from contextlib import closing, suppress
from typing import Literal

Condition = Literal["healthy", "slow", "dead", "absent"]
SLOW_SECONDS = 2.0


class Road:
    """A TCP port before a server.

    healthy  what is sent arrives
    slow     every answer takes two seconds
    dead     connections are refused
    absent   connections are taken, and nothing is ever answered
    """

    def __init__(self, server_uri: str, condition: Condition) -> None:
        host, port = server_uri.removeprefix("http://").split(":")
        self.server = (host, int(port))
        self.condition = condition
        self.lost: list[socket.socket] = []
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        self.uri = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        if condition != "dead":
            self._listen()

    def become(self, condition: Condition) -> None:
        was, self.condition = self.condition, condition
        for visitor in self.lost:
            visitor.close()
        self.lost.clear()
        if was == "dead":
            self._listen()

    def close(self) -> None:
        self.become("dead") if self.condition == "absent" else None
        self.listener.close()

    def _listen(self) -> None:
        self.listener.listen(64)
        threading.Thread(target=self._lead, daemon=True).start()

    def _lead(self) -> None:
        while True:
            try:
                visitor, _ = self.listener.accept()
            except OSError:  # closed
                return
            if self.condition == "absent":
                self.lost.append(visitor)
                continue
            try:
                server = socket.create_connection(self.server)
            except OSError:
                visitor.close()
                continue
            threading.Thread(target=self._copy, args=(visitor, server, False), daemon=True).start()
            threading.Thread(target=self._copy, args=(server, visitor, True), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with closing(target), suppress(OSError):
            while data := source.recv(1 << 20):
                if is_answer and self.condition == "slow":
                    time.sleep(SLOW_SECONDS)
                target.sendall(data)
