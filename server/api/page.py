"""The web pages at `/`, and the headers that keep them to themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fastapi import FastAPI, WebSocket
from starlette.datastructures import MutableHeaders
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.errors import error_response

PAGE = Path(__file__).parents[2] / "clients" / "web"

_CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "worker-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

HEADERS = {
    "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # The page must not outlive the server that it was written for.
    "Cache-Control": "no-cache",
}


class SecurityHeaders:
    """Adds HEADERS to every HTTP response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


NOT_RECORDED = "Nothing is recorded."
RECORDED = "This server records what is said."


class _Files(StaticFiles):
    """The pages' files. `pages` is what the pages themselves hold, by name; `index.html` is at `/` too."""

    def __init__(self, directory: Path, pages: Mapping[str, str]) -> None:
        super().__init__(directory=directory)
        self._pages = pages

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file at `path`, which is normalised."""
        page = self._pages.get("index.html" if path == "." else path)
        if page is not None and scope["method"] in ("GET", "HEAD"):
            return HTMLResponse(page)
        return await super().get_response(path, scope)


def add_page(app: FastAPI, *, recording: bool, directory: Path = PAGE) -> None:
    """Serve `directory` at `/`; each page on which one talks tells whether conversations are recorded.

    Added last: it answers whatever nothing else does.
    """
    pages = {path.name: path.read_text(encoding="utf-8") for path in directory.glob("*.html")}
    if recording:
        pages = {name: page.replace(NOT_RECORDED, RECORDED) for name, page in pages.items()}

    @app.websocket("/{path:path}")
    async def nowhere(socket: WebSocket) -> None:
        await socket.send_denial_response(error_response(404, "not_found", "Not Found"))

    app.mount("/", _Files(directory, pages))
