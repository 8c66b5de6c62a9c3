"""Guard the live page: only requests to a known host name, with the token in the address or a cookie, are let through."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_COOKIE = "unconv"
_POLICY = (
    "default-src 'none'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; script-src 'self'; connect-src 'self'; "
    "media-src 'self' blob:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"private, no-cache"),
)


class Guard:
    """Let requests through that have the token, name this server as their host, and come from a page of its own.

    Args:
        app: the application to guard.
        token: this run's token.
        hosts: the server's names with their ports. Any other name in the Host header belongs to a foreign page whose name
            has been made to point here (DNS rebinding).
    """

    def __init__(self, app: Application, token: str, hosts: set[str]) -> None:
        self._app, self._token, self._hosts = app, token.encode(), {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or let it through."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "").lower()
        if host not in self._hosts:
            await _refuse(send, 421, "This server is not known by that name.")
            return
        # What changes or costs anything must come from a page of this server, whatever cookie a browser sends along.
        is_restricted = scope["method"] not in ("GET", "HEAD") or scope["path"].startswith("/live/")
        if is_restricted and not _own_page(headers, host):
            await _refuse(send, 403, "Only a page of this server may send that.")
            return
        name = f"{_COOKIE}-{host.rpartition(':')[2] or 80}"  # all ports of a host share cookies
        query = parse_qs(scope["query_string"].decode("latin-1"))
        token = query.pop("token", [""])[0]
        if token and self._right(token) and scope["method"] == "GET":
            await self._admit(scope, send, query, name)
            return
        if not any(self._right(value) for value in _cookies(headers.get(b"cookie", ""), name)):
            await _refuse(send, 403, "Open the address that `unconv serve` has printed, with its token.")
            return
        await self._app(scope, receive, _with_headers(send))

    def _right(self, token: str) -> bool:
        return hmac.compare_digest(token.encode("utf-8", "replace"), self._token)

    async def _admit(self, scope: Scope, send: Send, query: dict[str, list[str]], name: str) -> None:
        """Set the token as a cookie and redirect to the address without it, which would otherwise be copied with the token."""
        remaining_query = urlencode(query, doseq=True)
        path = quote("/" + scope["path"].lstrip("/"))  # a path of two slashes would redirect to another server
        location = (path + (f"?{remaining_query}" if remaining_query else "")).encode()
        cookie = f"{name}={self._token.decode()}; HttpOnly; SameSite=Strict; Path=/".encode()
        headers = [(b"location", location), (b"set-cookie", cookie), *HEADERS]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def _own_page(headers: dict[bytes, str], host: str) -> bool:
    """Return whether the request comes from a page of this server by its headers; clients other than browsers send none."""
    origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
    return (origin is None or origin.lower() == f"http://{host}") and site in (None, "same-origin", "none")


def _cookies(text: str, name: str) -> list[str]:
    """Return the values of all cookies with this name; those of other servers on the host are ignored."""
    pairs = (part.partition("=") for part in text.split(";"))
    return [value.strip() for key, _, value in pairs if key.strip() == name]


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            known = {name.lower() for name, _ in message.get("headers", [])}
            added = [(name, value) for name, value in HEADERS if name not in known]
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return sending


async def _refuse(send: Send, status: int, words: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": words.encode()})
