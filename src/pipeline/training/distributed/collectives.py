"""Collective operations in the middle of a step.

gloo runs each of them in its own threads, which takes 0.5 to 1.2 ms if there are as many processes as cores. Between
processes of one host, Unix sockets that the computing thread writes and reads itself take 0.02 ms.
"""

import os
import platform
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, distributed

from pipeline.system.files import temporary_folder
from pipeline.training.torch_private import collectives_of_group

# W processes

_yield_processor = getattr(os, "sched_yield", lambda: None)
SPIN_SECONDS = 0.002  # of waiting without sleep: waking up usually takes longer than the other processes need
LIMIT_SECONDS = 1800.0  # torch's own
PEER_ENDED = "another process of the run ended in the middle of a step"


def all_gather(own: Tensor) -> Tensor:
    """Return (W, ...), in the order of the ranks: `own` of each process, of the same shape everywhere."""
    global _host
    group: Any = distributed.group.WORLD
    if own.device.type == "cpu":
        if _host is None or _host[0] is not group:
            _host = (group, HostGroup.connect())
        if (host := _host[1]) is not None:
            return host.all_gather(own)
    rows = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(rows, own)
    return torch.stack(rows)


def collectives_entered() -> int:
    """Return how many collective operations this process has entered so far."""
    group: Any = distributed.group.WORLD
    of_host = 0 if _host is None or _host[1] is None else _host[1].entered
    return 0 if group is None else collectives_of_group(group) + of_host


_host: tuple[Any, "HostGroup | None"] | None = None  # with the process group that it was made for


class HostGroup:
    """A socket to each other process of the run, if all are on this host."""

    def __init__(self, rank: int, peers: dict[int, socket.socket]) -> None:
        self.rank, self.peers = rank, peers
        self.entered = 0
        for peer in peers.values():
            peer.setblocking(False)

    @classmethod
    def connect(cls) -> "HostGroup | None":
        """Connect all processes, which must call it together; return None if one cannot be reached.

        That is usually on another host.
        """
        rank = distributed.get_rank()
        with ExitStack() as stack:
            # In a folder that only this user can open.
            address = str(stack.enter_context(temporary_folder()) / "socket")
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listens = _succeeds(listener.bind, address) and _succeeds(listener.listen, distributed.get_world_size())
            endpoints = _gather_objects((platform.node(), address if listens else None))
            host, addresses = endpoints[0][0], [address for _, address in endpoints]
            peers = {lower: socket.socket(socket.AF_UNIX) for lower in range(rank)}
            reached = all(address is not None and node == host for node, address in endpoints) and all(
                _succeeds(peer.connect, addresses[lower]) and _succeeds(peer.sendall, rank.to_bytes(4, "big"))
                for lower, peer in peers.items()
            )
            if not all(_gather_objects(reached)):  # an address that is too long, containers with the same name
                for peer in peers.values():
                    peer.close()
                return None
            for _ in range(rank + 1, len(endpoints)):
                peer = listener.accept()[0]
                peers[int.from_bytes(peer.recv(4, socket.MSG_WAITALL), "big")] = peer
            return cls(rank, peers)

    def all_gather(self, own: Tensor) -> Tensor:
        """Raise ConnectionError if another process ended, TimeoutError if one does not come."""
        self.entered += 1
        gathered = torch.empty((len(self.peers) + 1, *own.shape), dtype=own.dtype)
        gathered[self.rank] = own
        rows = [memoryview(row.numpy().reshape(-1)).cast("B") for row in gathered]
        unsent = dict.fromkeys(self.peers.values(), rows[self.rank])
        unread = {peer: rows[rank] for rank, peer in self.peers.items()}
        began = time.monotonic()
        while True:
            for peer in list(unsent):
                _advance(unsent, peer, peer.send)
            for peer in list(unread):
                _advance(unread, peer, peer.recv_into)
            if not unsent and not unread:
                return gathered
            if (waited := time.monotonic() - began) > SPIN_SECONDS:
                self._sleep(unsent, unread, LIMIT_SECONDS - waited)
            else:
                _yield_processor()

    def _sleep(self, unsent: Any, unread: Any, seconds: float) -> None:
        """Sleep until something can be sent or read."""
        if seconds <= 0:
            missing = [rank for rank, peer in self.peers.items() if peer in unread]
            raise TimeoutError(f"process {self.rank} waited {LIMIT_SECONDS:g} s for other processes: {missing}")
        with selectors.DefaultSelector() as selector:
            for peer in {*unsent, *unread}:
                events = (selectors.EVENT_WRITE if peer in unsent else 0) | (
                    selectors.EVENT_READ if peer in unread else 0
                )
                selector.register(peer, events)
            selector.select(seconds)


def _advance(left: dict[socket.socket, memoryview], peer: socket.socket, move: Callable[[memoryview], int]) -> None:
    """Send or read as many bytes as possible without waiting."""
    try:
        moved = move(left[peer])
    except BlockingIOError:
        return
    except ConnectionError as error:
        raise ConnectionError(PEER_ENDED) from error
    if moved == 0:
        raise ConnectionError(PEER_ENDED)
    left[peer] = left[peer][moved:]
    if not left[peer]:
        del left[peer]


def _succeeds(call: Callable[[Any], Any], argument: Any) -> bool:
    try:
        call(argument)
    except OSError:
        return False
    return True


def _gather_objects(own: Any) -> list[Any]:
    gathered: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(gathered, own)
    return gathered
