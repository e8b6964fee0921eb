"""Who may ask what: the token, the server's own name, sizes, and headers of safety.

A page of another site can make a browser send requests to this machine. Therefore a
server without a token answers only to names of this machine (DNS rebinding), and what
changes something must come from the server's own page (CSRF): its `Origin` is compared
with `Host`.
"""

import hashlib
import hmac
import json
import urllib.parse
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "svtas_jax"
OPEN_PATHS = ("/healthz",)
MOST_HEADER_BYTES = 16_384
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src "
    "'self'; img-src 'self' blob:; media-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


class Access:
    """Lets only those requests through to an app that may pass.

    Args:
        app: the app.
        host: on which the server listens.
        token: that every request must show, "" for none.
    """

    def __init__(self, app: ASGIApp, *, host: str, token: str = "") -> None:
        self._app, self._token = app, token.encode()
        self._names = {*LOOPBACK, host.lower()}
        self._secret = hashlib.sha256(b"svtas_jax cookie " + self._token).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request, see the ASGI specification."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        problem = self._problem(scope)
        if problem is not None:
            await _refuse(scope, send, *problem)
            return
        cookie = self._cookie(scope)

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _with_safety(message, cookie)}
            await send(message)

        await self._app(scope, receive, send_safely)

    def _problem(self, scope: Scope) -> tuple[int, str] | None:
        headers = _headers_of(scope)
        if sum(len(k) + len(v) for k, v in scope["headers"]) > MOST_HEADER_BYTES:
            return 431, f"The headers have more than {MOST_HEADER_BYTES} bytes."
        host = headers.get("host", "")
        if not self._token and _name_of(host) not in self._names:
            return 421, (
                "This server does not answer to that host name; use the address that "
                "it printed when it started."
            )
        if not _is_own(scope, headers, host):
            return 403, "The request comes from a page of another site."
        if self._token and scope["path"] not in OPEN_PATHS and not self._shows(scope):
            return 401, (
                "The token is missing or wrong; send Authorization: Bearer TOKEN, or "
                "open the page once with ?token=TOKEN."
            )
        return None

    def _shows(self, scope: Scope) -> bool:
        kind, _, given = _headers_of(scope).get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is_token(given.strip()):
            return True
        return self._in_query(scope) or self._in_cookie(scope)

    def _in_query(self, scope: Scope) -> bool:
        query = scope["query_string"].decode("latin-1")
        try:
            given = urllib.parse.parse_qs(query, max_num_fields=50)
        except ValueError:  # too many fields
            return False
        return any(self._is_token(token) for token in given.get("token", ()))

    def _in_cookie(self, scope: Scope) -> bool:
        try:
            cookies = SimpleCookie(_headers_of(scope).get("cookie", ""))
        except CookieError:
            return False
        return COOKIE in cookies and _equal(cookies[COOKIE].value, self._secret)

    def _is_token(self, given: str) -> bool:
        return _equal(given, self._token.decode())

    def _cookie(self, scope: Scope) -> str:
        """Returns the cookie to set: it stands for the token, but is not it."""
        if not self._token or scope["type"] != "http" or not self._in_query(scope):
            return ""
        return f"{COOKIE}={self._secret}; Path=/; HttpOnly; SameSite=Strict"


def _equal(a: str, b: str) -> bool:
    return hmac.compare_digest(a.encode(errors="replace"), b.encode())


def _headers_of(scope: Scope) -> dict[str, str]:
    return {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}


def _name_of(host: str) -> str:
    """Returns a Host header without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _is_own(scope: Scope, headers: dict[str, str], host: str) -> bool:
    """Whether a request that changes something comes from the server's own page.

    Programs send no `Origin`; browsers always do, and no page can change it.
    """
    if scope["type"] == "http" and scope["method"] in _SAFE_METHODS:
        return True
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    if origin is None:
        return True
    kind, _, place = origin.lower().partition("://")
    return kind in ("http", "https") and place == host.lower()


def _with_safety(message: Message, cookie: str) -> Iterable[tuple[bytes, bytes]]:
    sent = {name.lower() for name, _ in message.get("headers", ())}
    more = [
        (name.encode(), value.encode())
        for name, value in HEADERS.items()
        if name.encode() not in sent
    ]
    if cookie:
        more.append((b"set-cookie", cookie.encode()))
    return [*message.get("headers", ()), *more]


async def _refuse(scope: Scope, send: Send, status: int, message: str) -> None:
    """Answers with an error; also a WebSocket that is not open yet."""
    body = json.dumps({"error": message}).encode()
    headers: list[tuple[bytes, bytes]] = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    start: dict[str, Any] = {"status": status}
    start["headers"] = _with_safety({"type": "", "headers": headers}, "")
    prefix = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": message})
            return
        prefix = "websocket.http.response"
    await send({"type": f"{prefix}.start", **start})
    body_sent = b"" if scope.get("method") == "HEAD" else body
    await send({"type": f"{prefix}.body", "body": body_sent})
