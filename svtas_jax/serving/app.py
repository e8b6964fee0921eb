"""Puts the routes together."""

from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from svtas_jax.serving import routes, streams
from svtas_jax.serving.access import Access
from svtas_jax.serving.problems import ProblemError
from svtas_jax.serving.state import State

_PAGES = ("/", "/style.css", "/app.js", "/draw.js", "/icon.svg")


def build_app(state: State, *, host: str = "127.0.0.1", token: str = "") -> Access:
    """Returns the ASGI app of a server.

    Args:
        state: what it serves.
        host: on which it listens.
        token: that every request must show, "" for none.
    """
    app = Starlette(
        routes=[
            *(Route(path, routes.page) for path in _PAGES),
            Route("/docs", routes.docs),
            Route("/openapi.json", routes.openapi),
            Route("/healthz", routes.health),
            Route("/metrics", routes.metrics),
            Route("/sources", routes.sources),
            Route("/sources/{number}", routes.source),
            Route("/sources/{number}/results", routes.source_results),
            Route("/sources/{number}/picture", routes.picture),
            Route("/sources/{number}/video", streams.moving_pictures),
            Route("/events", streams.events),
            Route("/segment", routes.segment, methods=["POST"]),
            Route("/jobs/{id}", routes.job, methods=["GET", "DELETE"]),
            Route("/jobs/{id}/results", routes.job_results),
            WebSocketRoute("/live", streams.live),
            Route("/live", routes.no_socket),
        ],
        exception_handlers=HANDLERS,
        lifespan=state.running,
    )
    app.state.serving = state
    app.router.redirect_slashes = False
    return Access(app, host=host, token=token)


async def _problem(request: Request, error: Any) -> Response:
    return error.response()


async def _http_error(request: Request, error: Any) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _fault(request: Request, error: Any) -> Response:
    return JSONResponse({"error": "A fault of the server; its log says more."}, 500)


HANDLERS: dict[Any, Any] = {
    ProblemError: _problem,
    HTTPException: _http_error,
    Exception: _fault,
}
