"""A channel between two processes: lines of JSON over a socket, and file descriptors beside them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Mapping
from typing import Any, Self

_CHUNK = 1 << 16
_Content = dict[str, Any]


class Channel:
    """One end of a channel. A line that its sender did not finish is no line.

    ended: whether the other end is known to be gone.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = b""
        self._descriptors: list[int] = []
        self.ended = False

    @classmethod
    def pair(cls) -> tuple[Self, socket.socket]:
        """Make a channel and return its own end, and the other one to give away."""
        own, other = socket.socketpair()
        return cls(own), other

    @classmethod
    def of_descriptor(cls, descriptor: int) -> Self:
        """Take over an end that was inherited or handed over; no program that is started shall hold it."""
        os.set_inheritable(descriptor, False)
        return cls(socket.socket(fileno=descriptor))

    def send(self, content: Mapping[str, Any], hand_over: socket.socket | None = None) -> None:
        """Send one line, and a descriptor with it where one is handed over. The other end may be gone."""
        line = json.dumps(content, default=str).encode() + b"\n"
        self._connection.settimeout(None)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if hand_over is None:
                self._connection.sendall(line)
            else:
                socket.send_fds(self._connection, [line], [hand_over.fileno()])

    def receive(self, timeout: float | None = None) -> _Content | None:
        """Wait for one line; None at the end of the stream or of the time.

        Raises :class:`ValueError` for a line that nobody sent through a channel.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while b"\n" not in self._received:
            chunk = self._chunk(None if deadline is None else deadline - time.monotonic())
            if not chunk:
                return None
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        content = json.loads(line)
        if not isinstance(content, dict):
            raise ValueError(f"a line of a channel is an object, and not {content!r}")
        return content

    def take_descriptor(self) -> int:
        """Return the descriptor that came with a line."""
        return self._descriptors.pop(0)

    def _chunk(self, timeout: float | None) -> bytes:
        if timeout is not None and timeout <= 0:
            return b""
        self._connection.settimeout(timeout)
        try:
            # A plain read would drop a descriptor that comes with the bytes.
            chunk, descriptors, _, _ = socket.recv_fds(self._connection, _CHUNK, 1)
        except TimeoutError:
            return b""
        except ConnectionResetError:
            chunk, descriptors = b"", []
        self._descriptors += descriptors
        self.ended = not chunk
        return chunk

    def close(self) -> None:
        """Close this end."""
        self._connection.close()
