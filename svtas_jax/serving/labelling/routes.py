"""The requests of the labelling page."""

import asyncio
import json
import re
from typing import Any

import numpy as np
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from svtas_jax.errors import InputError
from svtas_jax.serving import routes
from svtas_jax.serving.labelling import packs
from svtas_jax.serving.labelling.documents import check_segments
from svtas_jax.serving.labelling.folder import Video
from svtas_jax.serving.labelling.state import LabelState, describe
from svtas_jax.serving.labelling.store import Change, ConflictError
from svtas_jax.serving.problems import ProblemError

_MOST_BODY = 16_000_000
_MOST_PICTURES = 128
_NAME = re.compile("[0-9A-Za-z-]{1,64}")


async def start_page(request: Request) -> Response:
    """Returns the page."""
    return routes.page_file("label.html")


async def health(request: Request) -> Response:
    """Says whether the server works."""
    return JSONResponse({"status": "ok"})


async def listing(request: Request) -> Response:
    """Describes the folder and its videos, those that changed since a revision."""
    since = _number(request, "since")
    return JSONResponse(await asyncio.to_thread(_state(request).listing, since))


async def labels(request: Request) -> Response:
    """Returns the labels of a video, and makes its pictures before all others."""
    state, video = _state(request), _video(request)
    state.maker.want(video.id)
    if state.proposer is not None:
        await asyncio.to_thread(state.proposer.add, video, first=True)
    return JSONResponse(await asyncio.to_thread(_describe, state, video))


async def save(request: Request) -> Response:
    """Saves the labels of a video; answers when the disk has them."""
    state, video, given = _state(request), _video(request), await _body(request)
    change = _change(given, state.num_frames(video))
    try:
        return JSONResponse(await asyncio.to_thread(_save, state, video, change))
    except ConflictError as error:
        message = error.opened.notice or (
            "These labels were changed elsewhere, in another window or by another "
            "person, after you opened them."
        )
        found = describe(error.opened, state.mark(video))
        return JSONResponse({"error": message, **found}, 409)


async def proposal(request: Request) -> Response:
    """Returns what the run has found in a video."""
    state, video = _state(request), _video(request)
    found = None
    if state.proposer is not None:
        found = await asyncio.to_thread(state.proposer.read, video)
    if found is None:
        raise ProblemError(404, "There are no pre-labels of this video yet.")
    return JSONResponse({name: found[name] for name in found if name != "file"})


async def pictures(request: Request) -> Response:
    """Returns pictures of consecutive frames: those that are made so far."""
    task = _state(request).maker.find(_video(request).id)
    first = _number(request, "first")
    count = min(_number(request, "count", 1), _MOST_PICTURES)
    found: list[bytes] = []
    if task is not None:
        found = await asyncio.to_thread(task.pack.read, first, count)
    return Response(packs.join(found), media_type="application/octet-stream")


async def times(request: Request) -> Response:
    """Returns when frames are shown, in seconds: float64, little-endian."""
    task, first = (
        _state(request).maker.find(_video(request).id),
        _number(request, "first"),
    )
    found = np.zeros(0)
    if task is not None:
        found = np.asarray(task.pack.times_s[first : len(task.pack)])
    return Response(
        found.astype("<f8").tobytes(), media_type="application/octet-stream"
    )


async def add_class(request: Request) -> Response:
    """Adds a class to mapping.txt."""
    state, given = _state(request), await _body(request)
    await asyncio.to_thread(_checked, state.store.add_class, _text(given, "name"))
    return JSONResponse(await asyncio.to_thread(state.listing, 0), 201)


async def rename_class(request: Request) -> Response:
    """Renames a class in mapping.txt and all labels."""
    state, given = _state(request), await _body(request)
    old, new = _text(given, "old"), _text(given, "new")
    await asyncio.to_thread(_checked, state.store.rename_class, old, new)
    return JSONResponse(await asyncio.to_thread(state.listing, 0))


def _state(request: Request) -> LabelState:
    return request.app.state.serving


def _video(request: Request) -> Video:
    return _state(request).video(request.path_params["id"])


def _describe(state: LabelState, video: Video) -> dict[str, Any]:
    mark = state.mark(video)
    opened = _checked(state.store.read, video.name, state.num_frames(video))
    return describe(opened, mark)


def _save(state: LabelState, video: Video, change: Change) -> dict[str, Any]:
    num_frames = state.num_frames(video)
    opened = _checked(state.store.save, video.name, change, num_frames=num_frames)
    return describe(opened, state.mark(video))


def _checked(work: Any, *arguments: Any, **options: Any) -> Any:
    try:
        return work(*arguments, **options)
    except InputError as error:
        is_disk = isinstance(error.__cause__, OSError)  # full, or not ours: try again
        raise ProblemError(507 if is_disk else 422, _sentence(str(error))) from error


def _change(given: dict[str, Any], num_frames: int) -> Change:
    try:
        segments = check_segments(given.get("segments"), num_frames=num_frames)
    except InputError as error:
        raise ProblemError(422, _sentence(str(error))) from error
    edit = _text(given, "edit")
    if not _NAME.fullmatch(edit):
        raise ProblemError(422, "edit must be 1 to 64 letters, digits and hyphens.")
    return Change(_text(given, "base"), edit, segments, _text(given, "run"))


async def _body(request: Request) -> dict[str, Any]:
    """Reads a JSON object; its type is asked for because forms cannot send it."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != "application/json":
        raise ProblemError(415, "The body must be application/json.")
    data = bytearray()
    try:
        async for part in request.stream():
            data += part
            if len(data) > _MOST_BODY:
                raise ProblemError(413, f"The body has more than {_MOST_BODY} bytes.")
        given = json.loads(data)
    except ClientDisconnect as error:
        raise ProblemError(400, "The request broke off.") from error
    except (ValueError, RecursionError) as error:
        raise ProblemError(422, "The body is no JSON.") from error
    if not isinstance(given, dict):
        raise ProblemError(422, "The body must be a JSON object.")
    return given


def _text(given: dict[str, Any], name: str) -> str:
    found = given.get(name, "")
    if not isinstance(found, str) or not _encodes(found):
        raise ProblemError(422, f"{name} must be a text.")
    return found


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _number(request: Request, name: str, default: int = 0) -> int:
    given = request.query_params.get(name, str(default))
    if not re.fullmatch("[0-9]{1,9}", given):
        raise ProblemError(422, f"{name} must be a number, at least 0.")
    return int(given)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] if text[:1].isalpha() else text
