"""The socket that a server of live audio listens on."""

from __future__ import annotations

import socket

_UNSENT_BYTES = 64 * 1024
"""What the kernel may hold that the network has not taken. Its default of megabytes would be a minute of stale audio
for a client that has stopped reading."""


def bind(host: str, port: int, *, receive_bytes: int | None = None) -> socket.socket:
    """A socket bound to the address, not listening yet. Raises OSError where that cannot be.

    `receive_bytes`: what the kernel keeps of what a client sends; its own choice by default.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_bytes is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener
