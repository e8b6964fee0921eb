"""The requests that are answered at once."""

import asyncio
import importlib.resources
import re
import urllib.parse
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from svtas_jax.errors import InputError
from svtas_jax.serving import checking, exports, forms, prometheus
from svtas_jax.serving.cameras import Camera
from svtas_jax.serving.jobs import Job, Jobs
from svtas_jax.serving.openapi import describe
from svtas_jax.serving.problems import ProblemError
from svtas_jax.serving.reference import to_html
from svtas_jax.serving.state import State

_PAGE = "svtas_jax.serving"
_KINDS = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}


def state_of(request: Any) -> State:
    """Returns what the server holds."""
    return request.app.state.serving


def find_camera(state: State, given: str) -> Camera:
    """Returns the source of a number.

    Raises:
        ProblemError: with status 404.
    """
    cameras = state.cameras.all
    if re.fullmatch("[0-9]{1,6}", given) and int(given) < len(cameras):
        return cameras[int(given)]
    raise ProblemError(
        404, f"There is no such source; this server has {len(cameras)}, from 0."
    )


def camera_of(request: Any) -> Camera:
    """Returns the source that the path names.

    Raises:
        ProblemError: with status 404.
    """
    return find_camera(state_of(request), request.path_params["number"])


def choice(request: Any, name: str, choices: tuple[str, ...]) -> str:
    """Returns a parameter of the query, the first choice if it is absent.

    Raises:
        ProblemError: with status 422.
    """
    given = request.query_params.get(name, choices[0])
    if given not in choices:
        raise ProblemError(422, f"{name} must be one of {', '.join(choices)}.")
    return given


async def page(request: Request) -> Response:
    """Returns a file of the page."""
    return page_file(request.url.path.strip("/") or "index.html")


def page_file(name: str) -> Response:
    """Returns the file of the page that has this name."""
    text = importlib.resources.files(_PAGE).joinpath("page", name).read_text("utf-8")
    kind = _KINDS[name.rpartition(".")[2]]
    return Response(text, media_type=f"{kind}; charset=utf-8")


async def sources(request: Request) -> Response:
    """Describes the model and all sources."""
    state = state_of(request)
    found = [camera.to_json() for camera in state.cameras.all]
    return JSONResponse({**state.about, "sources": found})


async def source(request: Request) -> Response:
    """Describes a source."""
    return JSONResponse(camera_of(request).to_json())


async def source_results(request: Request) -> Response:
    """Returns what a source has shown so far."""
    camera = camera_of(request)
    about = camera.to_json() | {"classes": list(state_of(request).run.class_names)}
    name = f"source_{camera.number}"
    return await _download(request, camera.history.past(), about, name)


async def picture(request: Request) -> Response:
    """Returns the newest picture of a source."""
    camera = camera_of(request)
    jpeg = await camera.pictures.newest()
    if not jpeg:
        raise ProblemError(404, f"Source {camera.number} has given no picture yet.")
    return Response(jpeg, media_type="image/jpeg")


async def segment(request: Request) -> Response:
    """Takes a video and puts it in the queue."""
    state = state_of(request)
    forms.check_length(request.headers, state.most_bytes)
    try:
        with state.jobs.place() as path:
            if path is None:
                raise ProblemError(
                    503,
                    "Too many videos wait; try again later.",
                    {"Retry-After": "10", "Connection": "close"},
                )
            form = await forms.read_form(
                request.stream(), request.headers, path, most_bytes=state.most_bytes
            )
            truth = None
            if form.labels is not None:
                truth = checking.read_labels(form.labels, state.run.class_names)
            await asyncio.to_thread(checking.check_video, path)
            job = state.jobs.submit(form.video_name, path, truth)
    except InputError as error:
        raise ProblemError(503, str(error)) from error
    return JSONResponse(job.to_json(), 202, {"Location": f"/jobs/{job.id}"})


async def job(request: Request) -> Response:
    """Returns how far a job is, and its result; ends and forgets it if asked to."""
    found = _job_of(request)
    if request.method != "DELETE":
        return JSONResponse(found.to_json())
    state_of(request).jobs.remove(found)
    return Response(status_code=204)


async def job_results(request: Request) -> Response:
    """Returns the result of a job as a file."""
    found = _job_of(request)
    if found.past is None:
        raise ProblemError(409, f"The job is {found.state}; it has no result.")
    about = {"name": found.name, **found.measured}
    stem = found.name.rpartition(".")[0] or found.name
    return await _download(request, found.past, about, stem)


async def no_socket(request: Request) -> Response:
    """Refuses what is no WebSocket."""
    headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
    raise ProblemError(426, "Open this address as a WebSocket.", headers)


async def health(request: Request) -> Response:
    """Says whether the server works."""
    states = [camera.state for camera in state_of(request).cameras.all]
    return JSONResponse({"status": "ok", "sources": states})


async def metrics(request: Request) -> Response:
    """Returns the figures in Prometheus's text format."""
    text = prometheus.write(state_of(request))
    return Response(text, headers={"Content-Type": prometheus.CONTENT_TYPE})


async def openapi(request: Request) -> Response:
    """Describes this interface."""
    return JSONResponse(describe(state_of(request).run.class_names))


async def docs(request: Request) -> Response:
    """Describes this interface for people."""
    text = to_html(describe(state_of(request).run.class_names))
    return Response(text, media_type="text/html; charset=utf-8")


def _job_of(request: Request) -> Job:
    jobs: Jobs = state_of(request).jobs
    found = jobs.find(request.path_params["id"])
    if found is None:
        raise ProblemError(404, "There is no such job, or it has been forgotten.")
    return found


async def _download(request: Request, past: Any, about: Any, name: str) -> Response:
    kind = choice(request, "format", tuple(exports.FORMATS))
    try:
        text = await asyncio.to_thread(exports.write, kind, past, about)
    except InputError as error:
        raise ProblemError(409, str(error)) from error
    quoted = urllib.parse.quote(f"{name}.{kind}", safe="")
    return Response(
        text,
        headers={
            "Content-Type": exports.FORMATS[kind],
            "Content-Disposition": f"attachment; filename*=UTF-8''{quoted}",
        },
    )
