"""An HTTP server for a WSGI application, which keeps nothing of a request on disk."""

import ipaddress
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from projects.reliable_runner.errors import InputError

if TYPE_CHECKING:
    from waitress.server import BaseWSGIServer

_LOCAL = ("127.0.0.1", "[::1]", "localhost")
_THREADS = 8  # requests that are worked on or wait; reading and sending take none
_CONNECTIONS = 50
_IN_MEMORY = 2**40  # bytes from which waitress would buffer in a file: never


class HttpServer:
    """Listens at an address, 0 being any free port; who connects waits until an application is served.

    It is a context manager, which closes the socket.

    Raises:
        InputError: waitress is not installed, the port is in use or not for this user, or the machine has no
            such address.
    """

    def __init__(self, host: str, port: int) -> None:
        try:
            from waitress import create_server
        except ImportError as error:
            raise InputError(f"a server wants a package: pip install waitress==3.0.2 ({error})") from error
        self._create_server = create_server
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self.socket = socket.create_server((host, port), family=family)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"can't listen at --host {host} --port {port}: {reason}") from error
        self.host, self.port = self.socket.getsockname()[:2]

    def __enter__(self) -> "HttpServer":
        return self

    def __exit__(self, *_) -> None:
        self.socket.close()

    @property
    def address(self) -> str:
        """What a browser opens."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/"

    @property
    def names(self) -> tuple[str, ...] | None:
        """All names that browsers have for it where it serves this machine alone; None elsewhere."""
        return _LOCAL if ipaddress.ip_address(self.host).is_loopback else None

    def make(self, application: Callable, max_bytes: int) -> "BaseWSGIServer":
        """Waitress, whose ``run`` serves until Ctrl-C; more than ``max_bytes`` in a body are a 413."""
        return self._create_server(
            application,
            sockets=[self.socket],
            threads=_THREADS,
            connection_limit=_CONNECTIONS,
            max_request_body_size=max_bytes + 1,
            channel_request_lookahead=1,  # it notices that a client has gone
            inbuf_overflow=_IN_MEMORY,
            outbuf_overflow=_IN_MEMORY,
            ident=None,
        )
