"""An HTTP server for a WSGI application, which keeps nothing of a request on disk."""

import ipaddress
import socket
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from projects.reliable_runner.errors import InputError

if TYPE_CHECKING:
    from waitress.server import BaseWSGIServer

_LOCAL = ("127.0.0.1", "[::1]", "localhost")
_THREADS = 8  # requests that are worked on or wait; reading and sending take none
_CONNECTIONS = 50
_IN_MEMORY = 2**40  # bytes from which waitress would buffer in a file: never


def listen(host: str, port: int) -> socket.socket:
    """Listen at an address, 0 being any free port; who connects waits until an application is served.

    Raises:
        InputError: waitress is not installed, the port is in use or not for this user, or the machine has no
            such address.
    """
    if find_spec("waitress") is None:
        raise InputError("a server wants a package: pip install waitress==3.0.2")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"can't listen at --host {host} --port {port}: {reason}") from error


def page_address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def local_names(listening: socket.socket) -> tuple[str, ...] | None:
    """All names that browsers have for it where it serves this machine alone; None elsewhere."""
    return _LOCAL if ipaddress.ip_address(listening.getsockname()[0]).is_loopback else None


def make_server(listening: socket.socket, application: Callable, max_bytes: int) -> "BaseWSGIServer":
    """Waitress, whose ``run`` serves until Ctrl-C; more than ``max_bytes`` in a body are a 413."""
    from waitress import create_server

    return create_server(
        application,
        sockets=[listening],
        threads=_THREADS,
        connection_limit=_CONNECTIONS,
        max_request_body_size=max_bytes + 1,
        channel_request_lookahead=1,  # it notices that a client has gone
        inbuf_overflow=_IN_MEMORY,
        outbuf_overflow=_IN_MEMORY,
        ident=None,
    )
