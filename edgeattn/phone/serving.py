"""Addresses, sockets, and the servers on them: the page's and, with https, a landing page that explains the warning."""

import asyncio
import contextlib
import logging
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import h11
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgeattn.errors import BadInputError, MissingError
from edgeattn.phone import certificate, setup
from edgeattn.phone.server import HEADERS
from edgeattn.phone.site import read
from edgeattn.system import signals

# A connection has to send the whole header of a request within this time.
HEAD_S = 15.0
# A phone's browser opens some six connections.
CONNECTIONS = 800
# Of one address: a cable brings all its phones from this machine's own, and nobody is to keep all others out.
CONNECTIONS_OF_ONE = 300
LANDING = {"": "landing.html", **{name: name for name in ("landing.js", "style.css", "icon.svg")}}


@dataclass(frozen=True)
class Endpoint:
    """Where the page is served: sockets that are already bound, and the address for people.

    ``open_at`` is the address to open (or to show as a QR code); ``page`` is the address of the page itself.
    """

    sockets: tuple[socket.socket, ...]
    host: str
    page: str
    open_at: str
    token: str
    fingerprint: str
    tls: tuple[bytes, bytes] | None

    @property
    def port(self) -> int:
        return int(self.sockets[0].getsockname()[1])

    @property
    def local(self) -> frozenset[str]:
        """The client addresses of this machine's own browsers."""
        return frozenset({"127.0.0.1", str(self.sockets[0].getsockname()[0])})


@contextlib.contextmanager
def endpoint(host: str, *, https: bool, port: int) -> Iterator[Endpoint]:
    """Bind ``host``: "localhost", "lan", or a name or IPv4 address of this machine; port 0 is any free one.

    Raises:
        BadInputError: it cannot be bound.
        MissingError: this machine is in no network.
    """
    name = _lan_address() if host == "lan" else host
    address = "127.0.0.1" if name == "localhost" else name
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(_bind(address, port))]
        token = secrets.token_urlsafe(16)
        bound, page_port = sockets[0].getsockname()
        if bound == "0.0.0.0":
            raise BadInputError(
                f"{host} is no address that one can open; give --host lan, or an address of this machine"
            )
        page = f"{'https' if https else 'http'}://{name}:{page_port}/{token}/"
        open_at, tls = page, None
        if https:
            tls = certificate.make(name)
            sockets.append(stack.enter_context(_bind(address, 0)))
            # The token follows the #: it never goes over the network unencrypted.
            open_at = f"http://{name}:{sockets[1].getsockname()[1]}/#{page_port}/{token}"
        shown = certificate.fingerprint(tls[0]) if tls else ""
        yield Endpoint(tuple(sockets), name, page, open_at, token, shown, tls)


def _lan_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it selects the address that would be used
        except OSError as error:
            raise MissingError("this computer is in no network; connect it, or use --adb with a cable") from error
        return str(probe.getsockname()[0])


def _bind(address: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.bind((address, port))
    except (OSError, OverflowError) as error:
        bound.close()
        raise BadInputError(f"{address}:{port} cannot be used: {error}; give another --host or --port") from error
    bound.listen(128)
    bound.setblocking(False)
    return bound


async def serve(endpoint: Endpoint, application: Starlette, stop: asyncio.Event) -> None:
    """Serve until ``stop`` is set; pending requests are answered."""
    servers = [_server(application, endpoint.tls)]
    if endpoint.tls:
        servers.append(_server(_landing(), None))
    running = [
        asyncio.create_task(server.serve([bound])) for server, bound in zip(servers, endpoint.sockets, strict=True)
    ]
    ending = asyncio.create_task(stop.wait())
    await asyncio.wait([ending, *running], return_when=asyncio.FIRST_COMPLETED)
    for server in servers:
        server.should_exit = True
    # A request that is cut off at the end would be printed as an error.
    log = logging.getLogger("uvicorn.error")
    log.disabled = stop.is_set()
    try:
        await asyncio.gather(*running)
    finally:
        log.disabled = False
    ending.cancel()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Two servers share this process: :func:`interrupts` takes the signals for both."""
        yield


class _Bounded(H11Protocol):
    """Closes a connection that does not complete the header of a request, and those of one address beyond a bound."""

    open_of: ClassVar[Counter[str]] = Counter()
    address = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own is
        super().connection_made(transport)
        self.address = self.client[0] if self.client else "?"
        self.open_of[self.address] += 1
        if self.open_of[self.address] > CONNECTIONS_OF_ONE:
            transport.abort()
        self.loop.call_later(HEAD_S, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.open_of[self.address] -= 1

    def _check(self) -> None:
        if self.transport.is_closing():
            return
        waiting = self.conn.their_state is h11.IDLE
        if waiting and (self.cycle is None or self.conn.trailing_data[0]):
            self.transport.close()
        else:
            self.loop.call_later(HEAD_S, self._check)


def _server(application: Starlette, tls: tuple[bytes, bytes] | None) -> _Server:
    settings: dict[str, Any] = {}
    if tls:
        settings["ssl_context_factory"] = lambda *_: certificate.context(*tls)
    config = uvicorn.Config(
        application,
        http=_Bounded,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # A client's X-Forwarded-For is not trusted.
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=3,
        **settings,
    )
    return _Server(config)


@contextlib.contextmanager
def interrupts(stop: Callable[[], object]) -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP call ``stop`` and do nothing else. (uvicorn's loop checks ten times a second.)"""
    with signals.handled(lambda *_: stop()):
        yield


def _landing() -> Starlette:
    """One page that explains the browser's warning before it appears."""
    files = {name: read(setup.data("page") / file) for name, file in LANDING.items()}

    async def answer(request: Request) -> Response:
        file = files.get(request.path_params["path"])
        if file is None:
            raise HTTPException(404)
        return Response(file.content, media_type=file.media_type, headers=HEADERS)

    return Starlette(routes=[Route("/{path:path}", answer, methods=["GET"])])
