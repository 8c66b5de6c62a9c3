"""Serve the live page, to which pictures can be uploaded, and the pages of a site if there is one."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import quote, unquote

from unconv.errors import PictureError, UnconvError, WriteError
from unconv.render.page import live_script, page, stylesheet
from unconv.version import __version__
from unconv.web.guard import Application, Guard
from unconv.web.live import Live
from unconv.web.queue import Busy, Left, Queue
from unconv.web.writing import LIST, SPOOL

_LARGEST = 32 * 2**20  # bytes of an uploaded picture
_UPLOADS, _PATIENCE = 8, 30.0  # the most uploads in memory at a time; seconds for one to arrive
_KINDS = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".webp": "image/webp"}
_LOCAL = ("127.0.0.1", "localhost", "[::1]")


def application(live: Live, site: Path | None, token: str, hosts: set[str]) -> Application:
    """Return the server's application with its guard.

    Args:
        site: a complete site of the same scan; with None there is only the live page.

    Raises:
        UnconvError: starlette is not installed.
        WriteError: there is no complete site in `site`.
    """
    return _guarded(Answers(live, site), token, hosts)


def _guarded(answers: Answers, token: str, hosts: set[str]) -> Application:
    try:
        from starlette.applications import Starlette
        from starlette.routing import Route
    except ImportError as error:
        raise UnconvError(
            f'serve: starlette cannot be imported ({error}). Install it and the server with pip install "unconv[web]".'
        ) from error
    routes = [
        Route("/live", answers.live_page),
        Route("/live.js", answers.script),
        Route("/style.css", answers.style),
        Route("/live/facts", answers.facts),
        Route("/live/pictures", answers.take, methods=["POST"]),
        Route("/live/pictures/{picture:int}/units", answers.strongest),
        Route("/live/pictures/{picture:int}/{place:int}/{channel:int}", answers.unit),
        Route("/live/pictures/{picture:int}/{place:int}/{channel:int}/trust", answers.trust),
        Route("/live/progress", answers.progress),
        Route("/{path:path}", answers.file),  # last: it matches everything
    ]
    return Guard(Starlette(routes=routes, lifespan=answers.lifespan), token, hosts)


class Answers:
    """Answer requests; all work of the network goes through one queue."""

    def __init__(self, live: Live, site: Path | None) -> None:
        self.live, self.queue, self._uploads = live, Queue(), asyncio.Semaphore(_UPLOADS)
        # All files are listed by address once, so that no text from a request ever becomes part of a path.
        self.files = {} if site is None else _files(site, live)
        self.n = 0 if site is None else int(json.loads((site / LIST).read_text(encoding="utf-8"))["n"])

    @asynccontextmanager
    async def lifespan(self, _app: Any) -> AsyncIterator[None]:
        """Close the queue when the server ends; waiting work is not begun."""
        yield
        self.queue.close()

    async def live_page(self, _request: Any) -> Any:
        """Answer with the page to which pictures are uploaded."""
        facts = {"network": self.live.network.name, "site": bool(self.files), "version": __version__}
        prepared = {"method": "deconvnet", "method_words": "or another, chosen above", "preprocess": None}
        prepared["preprocess"] = self.live.network.preparation.numbers()  # type: ignore[assignment]
        return _response(page("live.html", root="/", title=f"Live: {facts['network']}", **facts, **prepared), ".html")

    async def script(self, _request: Any) -> Any:
        """Answer with the live page's script."""
        return _response(live_script(), ".js")

    async def style(self, _request: Any) -> Any:
        """Answer with the stylesheet of all pages."""
        return _response(stylesheet(), ".css")

    async def facts(self, _request: Any) -> Any:
        """Answer with the network's places, and the choices on the page."""
        return _json({**self.live.facts(), "site": bool(self.files), "n": self.n})

    async def take(self, request: Any) -> Any:
        """Read an uploaded picture, and answer with its strongest units."""
        if self.queue.waiting >= self.queue.most:
            return _busy()
        name = unquote(request.headers.get("x-name", "the picture"))[:200]
        async with self._uploads:
            try:
                data = await asyncio.wait_for(_body(request), _PATIENCE)
            except asyncio.TimeoutError:
                return _json({"error": f"The picture did not arrive within {_PATIENCE:g} seconds. Upload it again."}, 408)
            if len(data) > _LARGEST:
                too_large = f"The picture has more than {_LARGEST // 2**20} MiB. Upload a smaller one."
                return _json({"error": too_large}, 413)
            return await self._worked(request, lambda: self.live.take(data, name))

    async def strongest(self, request: Any) -> Any:
        """Answer with the units that respond most to a picture, or to a region of it."""
        picture, text = request.path_params["picture"], request.query_params.get("region")
        try:
            region = None if text is None else [int(n) for n in text.split(",")]
        except ValueError:
            return _json({"error": "region: four numbers y0,x0,y1,x1 were needed."}, 400)
        return await self._worked(request, lambda: {"units": self.live.strongest(picture, region)})

    async def unit(self, request: Any) -> Any:
        """Answer with a unit's projection in a picture."""
        return await self._of_unit(request, partial(self.live.unit, trace=request.query_params.get("trace") == "1"))

    async def trust(self, request: Any) -> Any:
        """Answer with how far that projection can be trusted."""
        return await self._of_unit(request, self.live.trust)

    async def _of_unit(self, request: Any, answer: Callable[..., Any]) -> Any:
        path, query = request.path_params, request.query_params
        try:
            position = [int(n) for n in query["at"].split(",")] if "at" in query else None
        except ValueError:
            return _json({"error": "at: a position y,x on the map was needed."}, 400)
        method = query.get("method", "deconvnet")
        unit = (path["picture"], path["place"], path["channel"], method, position)
        return await self._worked(request, lambda: answer(*unit))

    async def progress(self, request: Any) -> Any:
        """Answer with the number of waiting requests, as server-sent events."""
        from starlette.responses import StreamingResponse

        async def events() -> AsyncIterator[bytes]:
            async for waiting in self.queue.lengths():
                if await request.is_disconnected():
                    return
                yield f"data: {waiting}\n\n".encode()

        return StreamingResponse(events(), media_type="text/event-stream")

    async def file(self, request: Any) -> Any:
        """Answer with the site's file at this address."""
        from starlette.responses import FileResponse, RedirectResponse

        path = request.path_params["path"]
        if path in ("", "index.html") and not self.files:
            return RedirectResponse("/live", 303)
        site_file = self.files.get(path or "index.html")
        if site_file is None:
            return _response(b"There is no such page.", ".txt", 404)
        if site_file.suffix != ".html":
            return FileResponse(site_file, media_type=_KINDS.get(site_file.suffix, "application/octet-stream"))
        return _response(_with_way_in(site_file.read_bytes(), path), ".html")

    async def _worked(self, request: Any, work: Callable[[], Any]) -> Any:
        """Answer with the result of the work, or with its error and status."""
        try:
            return _json(await self.queue.run(work, request.is_disconnected))
        except Busy:
            return _busy()
        except Left:
            return _response(b"", ".txt", 499)
        except PictureError as error:
            return _json({"error": str(error)}, 422)
        except UnconvError as error:
            return _json({"error": str(error)}, 400)


async def _body(request: Any) -> bytes:
    """Return the body of a request; reading stops once it is too large."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > _LARGEST:
            break
    return bytes(data)


def _files(site: Path, live: Live) -> dict[str, Path]:
    """Return the files of a site by their addresses.

    Raises:
        WriteError: there is no complete site, or it belongs to another scan.
    """
    try:
        facts = json.loads((site / LIST).read_text(encoding="utf-8"))
        is_complete, index = bool(facts["whole"]), facts["index"]
    except (OSError, ValueError, TypeError, LookupError):
        is_complete, index = False, None
    if not is_complete:
        raise WriteError(f"serve: there is no complete site in {site}. Write it with `unconv site`.")
    if live.index is None or index != live.index.made_from:
        raise WriteError(f"serve: the site in {site} is that of another scan. Name the index from which it was written.")
    paths = (path for path in site.rglob("*") if path.is_file() and not path.is_symlink() and path.name != SPOOL)
    return {path.relative_to(site).as_posix(): path for path in paths}


def _with_way_in(content: bytes, path: str) -> bytes:
    """Return a page of the site with a link to the live page; a unit's page links to this unit there."""
    folder, _, name = path.rpartition("/")
    stem = name.removesuffix(".html")
    unit = f"#{quote(folder)}/{stem}" if folder and stem.isdigit() and folder != "pictures" else ""
    words = "See this unit in a picture of your own" if unit else "Try a picture of your own"
    return content.replace(b"<body>", f'<body>\n<p class="way-in"><a href="/live{unit}">{words}</a></p>'.encode(), 1)


def _busy() -> Any:
    return _json({"error": "Too many requests are waiting. Try again in a moment."}, 503, {"retry-after": "2"})


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Any:
    from starlette.responses import Response

    return Response(json.dumps(value), status, headers, "application/json")


def _response(content: bytes, kind: str, status: int = 200) -> Any:
    from starlette.responses import Response

    return Response(content, status, media_type=_KINDS.get(kind, "text/plain; charset=utf-8"))


def serve(
    live: Live, site: Path | None = None, host: str = "127.0.0.1", port: int = 0, told: Callable[[str], None] = print
) -> None:
    """Serve the live page until the program is stopped.

    Args:
        site: a folder that `write_site` wrote.
        host: the address to listen on. At any other address than this machine's own, others who know the token can connect.
        port: the port to listen on; 0 chooses a free one.
        told: called with the address of the page, which contains the token.

    Raises:
        UnconvError: the port is in use, or the server is not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise UnconvError(f'serve: uvicorn cannot be imported ({error}). Install it with pip install "unconv[web]".') from error
    try:
        # Connections are accepted from here on, and wait until the server runs.
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=256)
    except OSError as error:
        raise UnconvError(
            f"serve: cannot listen on port {port} of {host}: {error.strerror}. Another program listens there, or the "
            "address is not this machine's. Choose another."
        ) from error
    bound, port = listening.getsockname()[:2]
    if ip_address(bound).is_unspecified:
        listening.close()
        raise UnconvError(
            f"serve: {host!r} means every address at once. Pass the one address or name by which readers reach this machine."
        )
    host = f"[{host}]" if ":" in host else host
    names = dict.fromkeys([*_LOCAL, host])
    token = secrets.token_urlsafe(18)
    hosts = {f"{name}:{port}" for name in names} | (set(names) if port == 80 else set())  # browsers leave out port 80
    answers = Answers(live, site)
    app = _guarded(answers, token, hosts)

    class Server(uvicorn.Server):
        """Also end the streams of progress, which never end by themselves, when the server is stopped."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            answers.queue.ending = True
            super().handle_exit(sig, frame)

    told(f"http://{host}:{port}/?token={token}")
    config = uvicorn.Config(app, log_level="warning", timeout_keep_alive=20, timeout_graceful_shutdown=5, limit_concurrency=256)
    with listening:
        Server(config).run(sockets=[listening])
