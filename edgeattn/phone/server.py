"""The web application: the page and its files out, joins and results in. Without the token every path is a 404."""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import anyio
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from edgeattn.errors import BadInputError
from edgeattn.phone import messages, results
from edgeattn.phone.journal import Entry, Journal
from edgeattn.phone.messages import Join, Message, Progress, Result
from edgeattn.phone.phones import Phone, Phones, StoredResult, digest, now
from edgeattn.phone.plan import Plan, Task
from edgeattn.phone.site import File

M = TypeVar("M", bound=Message)
# A body has to arrive within this time.
BODY_S = 30.0
# Cross-origin isolation gives the page threads and a fine clock. Nothing may come from another origin, and no text is
# evaluated: ``wasm-unsafe-eval`` permits only the compilation of WebAssembly.
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True)
class Site:
    """Everything that the application needs.

    Args:
        hosts: the host names that it answers to; another name in a request is an attack by a foreign page.
        local: addresses of this machine, whose browsers are no phones.
        command: the command line, for the records.
        changed: called after each message of a phone, with the task that it finished, or "".
        headers: of the files, besides :data:`HEADERS`.
    """

    plan: Plan
    files: dict[str, File]
    journal: Journal
    phones: Phones
    token: str
    hosts: tuple[str, ...]
    local: frozenset[str]
    command: str
    changed: Callable[[Phone, str], None]
    headers: Mapping[str, str] = field(default_factory=dict)


def application(site: Site) -> Starlette:
    """The application of one ``edgeattn phone``."""

    def guarded(endpoint: Callable[[Site, Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            if not secrets.compare_digest(request.path_params["token"].encode(), site.token.encode()):
                raise HTTPException(404)
            return await endpoint(site, request)

        return answer

    app = Starlette(
        routes=[
            Route("/{token}/join", guarded(_join), methods=["POST"]),
            Route("/{token}/phones/{session}/progress", guarded(_progress), methods=["POST"]),
            Route("/{token}/phones/{session}/result", guarded(_result), methods=["POST"]),
            Route("/{token}/phones/{session}/done", guarded(_done), methods=["POST"]),
            Route("/{token}/{path:path}", guarded(_file), methods=["GET"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(site.hosts), www_redirect=False)],
        exception_handlers={HTTPException: _refuse, BadInputError: _refuse},
    )
    # Without the token no redirect hints that another path exists.
    app.router.redirect_slashes = False
    return app


async def _refuse(_: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        # Of a body that was not read to its end nothing more is waited for.
        close = {"Connection": "close"} if error.status_code in (400, 408, 413) else {}
        return JSONResponse({"error": error.detail}, error.status_code, headers=HEADERS | close)
    return JSONResponse({"error": str(error)}, 422, headers=HEADERS)


async def _file(site: Site, request: Request) -> Response:
    file = site.files.get(request.path_params["path"])
    if file is None:
        raise HTTPException(404)
    headers = {**HEADERS, **site.headers, "Cache-Control": "private, max-age=3600"}
    if file.compressed:
        headers["Content-Encoding"] = "gzip"  # without negotiation: every browser accepts it
    if isinstance(file.content, Path):
        # Streamed: a hundred phones may fetch a large artifact at once.
        return FileResponse(file.content, media_type=file.media_type, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


async def _join(site: Site, request: Request) -> Response:
    message, _ = await _read(request, Join, messages.LARGEST_BYTES[Join])
    phone = site.phones.join(message, local=request.client is None or request.client.host in site.local)
    if phone is None:
        raise HTTPException(429, "too many phones")
    site.changed(phone, "")
    return _json({"session": phone.session, "number": phone.number, "done": list(phone.results)})


async def _progress(site: Site, request: Request) -> Response:
    phone = _phone(site, request)
    message, _ = await _read(request, Progress, messages.LARGEST_BYTES[Progress])
    if message.task not in site.plan.tasks or message.run > site.plan.runs:
        raise HTTPException(422, "no such run")
    phone.begin(message.task, message.run)
    site.changed(phone, "")
    return _json({})


async def _result(site: Site, request: Request) -> Response:
    phone = _phone(site, request)
    message, body = await _read(request, Result, messages.largest_result_bytes(site.plan.output_bytes()))
    task = site.plan.tasks.get(message.task)
    if task is None:
        raise HTTPException(422, "no such task")
    async with phone.lock:
        if (stored := phone.results.get(task.key)) is None:
            try:
                stored = await anyio.to_thread.run_sync(_store, site, phone, task, message, digest(body))
            except OSError as error:
                raise HTTPException(507, f"the result cannot be written here: {error.strerror}") from error
            phone.results[task.key] = stored
            site.changed(phone, task.key)
        elif stored.digest != digest(body):
            raise HTTPException(409, "there is another result for this task")
    return _json({"passed": stored.passed})


def _store(site: Site, phone: Phone, task: Task, message: Result, body_digest: str) -> StoredResult:
    if message.seen is None:
        site.journal.append(Entry(not_run=results.not_run(site.plan, task, phone.sender, message.failure)))
        return StoredResult(body_digest, passed=False, summary=f"not run, {message.failure}")
    since = phone.since if phone.current_task == task.key else now()
    record = results.record(site.plan, task, message.seen, phone.sender, started_at=since, command=site.command)
    site.journal.append(Entry(record=record))
    passed = bool(record.parity and record.parity.passed)
    return StoredResult(body_digest, passed=passed, summary=results.summary(record))


async def _done(site: Site, request: Request) -> Response:
    phone = _phone(site, request)
    await _body(request, 1_000)
    phone.finished, phone.current_task = True, ""
    site.changed(phone, "")
    return _json({})


def _phone(site: Site, request: Request) -> Phone:
    phone = site.phones.by_session.get(request.path_params["session"])
    if phone is None:
        raise HTTPException(404, "no such phone; open the page again")
    return phone


async def _read(request: Request, kind: type[M], largest: int) -> tuple[M, bytes]:
    if request.headers.get("content-type") != "application/json":
        raise HTTPException(415, "send JSON")
    body = await _body(request, largest)
    try:
        return await anyio.to_thread.run_sync(kind.model_validate_json, body), body
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise HTTPException(422, f"{field}: {first['msg']}") from error


async def _body(request: Request, largest: int) -> bytes:
    """The whole body, of at most ``largest`` bytes, within :data:`BODY_S`."""
    body = bytearray()
    try:
        with anyio.fail_after(BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > largest:
                    raise HTTPException(413, f"more than {largest} bytes")
    except TimeoutError as error:
        raise HTTPException(408, "too slow") from error
    except ClientDisconnect as error:
        raise HTTPException(400, "broken off") from error
    return bytes(body)


def _json(document: dict[str, object]) -> Response:
    return JSONResponse(document, headers={**HEADERS, "Cache-Control": "no-store"})
