"""Runs the app on a socket until Ctrl-C."""

import contextlib
import errno
import ipaddress
import json
import logging as std_logging
import socket
from types import FrameType

import h11
import uvicorn
from absl import logging
from uvicorn.protocols.http.h11_impl import H11Protocol

from svtas_jax.errors import InputError
from svtas_jax.serving.access import HEADERS, LOOPBACK, MOST_HEADER_BYTES, Access
from svtas_jax.serving.app import build_app
from svtas_jax.serving.labelling.app import build_label_app
from svtas_jax.serving.labelling.state import LabelState
from svtas_jax.serving.seats import MOST_BYTES
from svtas_jax.serving.state import State

LEAST_TOKEN = 12  # characters
_BACKLOG = 512
_SLACK = 4096  # the line before the headers; more of these have an answer of their own


def check_access(host: str, token: str) -> None:
    """Checks that nobody else can reach a server without a token.

    Raises:
        InputError: if a token is missing, too short, or not plain ASCII.
    """
    if token and (len(token) < LEAST_TOKEN or not token.isascii() or " " in token):
        raise InputError(
            f"--token must have at least {LEAST_TOKEN} letters, digits or signs of "
            "ASCII and no space; `openssl rand -hex 16` makes a good one."
        )
    if not token and not is_loopback(host):
        raise InputError(
            f"--host={host} lets other machines in, and then --token=SECRET is needed; "
            "`openssl rand -hex 16` makes a good one. Or keep --host=127.0.0.1."
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host.lower() in LOOPBACK


def open_socket(host: str, port: int) -> socket.socket:
    """Listens on an address.

    Args:
        host: name or number of an interface of this machine.
        port: 0 for any that is free.

    Raises:
        InputError: if it is in use, or not of this machine.
    """
    if not 0 <= port < 65536:
        raise InputError(f"--port={port} must lie in 0 ... 65535.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InputError(
                f"port {port} of {host} is in use, perhaps by another server; end it, "
                "or choose another one with --port (0: any that is free)."
            ) from error
        raise InputError(
            f"--host={host} --port={port} cannot be listened on: "
            f"{error.strerror or error}."
        ) from error


def serve(
    state: State | LabelState,
    listening: socket.socket,
    *,
    host: str = "127.0.0.1",
    token: str = "",
) -> None:
    """Answers requests until SIGINT or SIGTERM, then ends within about a second.

    Args:
        state: what is served: cameras and uploads, or a folder to label.
        listening: see `open_socket`.
        host: its address.
        token: that every request must show, "" for none.
    """
    server = make_server(state, host=host, token=token)
    port = listening.getsockname()[1]
    address = f"[{host}]" if ":" in host else host
    logging.info("the page is at http://%s:%d/ (Ctrl-C ends it)", address, port)
    server.run(sockets=[listening])


def make_server(
    state: State | LabelState, *, host: str = "127.0.0.1", token: str = ""
) -> uvicorn.Server:
    """Returns the server; arguments as in `serve`."""
    std_logging.getLogger("uvicorn").setLevel(std_logging.ERROR)
    config = uvicorn.Config(
        _app_of(state, host, token),
        http=_Protocol,
        ws="websockets-sansio",
        ws_max_size=MOST_BYTES + 1024,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,  # it would show the token
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=MOST_HEADER_BYTES + _SLACK,
        timeout_graceful_shutdown=1,
        backlog=_BACKLOG,
    )
    return _Server(config, state)


def _app_of(state: State | LabelState, host: str, token: str) -> Access:
    if isinstance(state, LabelState):
        return build_label_app(state, host=host, token=token)
    return build_app(state, host=host, token=token)


class _Server(uvicorn.Server):
    """Ends the streams of clients as soon as it is told to end."""

    def __init__(self, config: uvicorn.Config, state: State | LabelState) -> None:
        super().__init__(config)
        self._state = state

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._state.stop_streams()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._captured_signals.clear()  # this is how a server ends: no error


class _Protocol(H11Protocol):
    """Answers what is no HTTP, or has too large headers, in JSON."""

    def send_400_response(self, msg: str) -> None:
        body = json.dumps({"error": msg}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *((name.encode(), value.encode()) for name, value in HEADERS.items()),
        ]
        events = (
            h11.Response(status_code=400, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )
        for event in events:
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
