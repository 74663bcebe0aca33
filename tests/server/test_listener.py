import socket

import pytest

from server.errors import StartupError
from server.listener import bind, url_of


def test_a_free_port_is_bound() -> None:
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert url_of(listener) == f"http://127.0.0.1:{port}"


def test_an_address_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StartupError, match=f"127.0.0.1 port {port}: Address already in use"):
            bind("127.0.0.1", port)


def test_a_host_that_is_none_is_named() -> None:
    with pytest.raises(StartupError, match="cannot listen on 203"):
        bind("203.0.113.1", 0)
