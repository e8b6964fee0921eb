"""Puts the routes of the labelling page together."""

from starlette.applications import Starlette
from starlette.routing import Route

from svtas_jax.serving import routes as files
from svtas_jax.serving.access import Access
from svtas_jax.serving.app import HANDLERS
from svtas_jax.serving.labelling import routes
from svtas_jax.serving.labelling.state import LabelState

_PAGES = (
    *("/style.css", "/icon.svg", "/draw.js"),
    *("/label.css", "/label.js", "/label_edit.js", "/label_keys.js", "/label_list.js"),
    *("/label_outbox.js", "/label_player.js", "/label_sure.js", "/label_timeline.js"),
    "/label_work.js",
)


def build_label_app(
    state: LabelState, *, host: str = "127.0.0.1", token: str = ""
) -> Access:
    """Returns the ASGI app of a labelling server; arguments as in `build_app`."""
    video = "/label/videos/{id}"
    app = Starlette(
        routes=[
            Route("/", routes.start_page),
            *(Route(path, files.page) for path in _PAGES),
            Route("/healthz", routes.health),
            Route("/label/videos", routes.listing),
            Route(video, routes.labels),
            Route(video, routes.save, methods=["POST"]),
            Route(f"{video}/proposal", routes.proposal),
            Route(f"{video}/pictures", routes.pictures),
            Route(f"{video}/times", routes.times),
            Route("/label/classes", routes.add_class, methods=["POST"]),
            Route("/label/classes/rename", routes.rename_class, methods=["POST"]),
        ],
        exception_handlers=HANDLERS,
        lifespan=state.running,
    )
    app.state.serving = state
    app.router.redirect_slashes = False
    return Access(app, host=host, token=token)
