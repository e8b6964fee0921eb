"""The requests that go on: events, moving pictures, and the camera of a browser."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from svtas_jax.errors import InputError
from svtas_jax.serving.cameras import step_json
from svtas_jax.serving.hub import Client, Hub
from svtas_jax.serving.pictures import BOUNDARY
from svtas_jax.serving.problems import ProblemError
from svtas_jax.serving.routes import camera_of, choice, find_camera, state_of
from svtas_jax.serving.seats import MOST_BYTES, Seat

_IDLE_S = 60.0
_EVENTS = "text/event-stream"
_VIDEO = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
# Codes of RFC 6455, section 7.4.1, and of IANA's registry: try again later.
_BAD_DATA, _TOO_BIG, _BUSY, _NORMAL = 1007, 1009, 1013, 1000


async def events(request: Request) -> Response:
    """Sends events as they come."""
    hub, source = state_of(request).hub, None
    every = choice(request, "every", ("step", "segment"))
    if "source" in request.query_params:
        given = request.query_params["source"]
        source = find_camera(state_of(request), given).number
    if request.method == "HEAD":
        return Response(media_type=_EVENTS)
    client = Client(source=source, steps=every == "step")
    if not hub.join(client):
        raise ProblemError(503, "Too many clients listen.", {"Retry-After": "10"})
    return StreamingResponse(_events_for(client, hub), media_type=_EVENTS)


async def moving_pictures(request: Request) -> Response:
    """Sends a source's pictures as they come."""
    pictures = camera_of(request).pictures
    if request.method == "HEAD":
        return Response(media_type=_VIDEO)
    return StreamingResponse(pictures.watch(), media_type=_VIDEO)


async def live(socket: WebSocket) -> None:
    """Answers the pictures of a browser's camera.

    Of pictures that come faster than the model answers, the newest one is taken.
    """
    seats = state_of(socket).seats
    seat = seats.take()
    await socket.accept()
    if seat is None:
        await _end(socket, _BUSY, "All places for cameras of browsers are taken.")
        return
    newest = _Newest()
    reading = asyncio.create_task(_read(socket, newest))
    try:
        await _answer(socket, seat, newest)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await asyncio.to_thread(seat.leave)


class _Newest:
    """The message that came last, and how many newer ones replaced."""

    def __init__(self) -> None:
        self.message: tuple[bytes, float] | None = None
        self.num_dropped, self.problem = 0, ""
        self.has_ended = False
        self.changed = asyncio.Event()

    async def take(self) -> tuple[bytes, float] | None:
        """Returns the next message, None after the end."""
        while self.message is None and not self.has_ended:
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), _IDLE_S)
        message, self.message = self.message, None
        return message


async def _read(socket: WebSocket, newest: _Newest) -> None:
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            data = message.get("bytes")
            if data is None:
                newest.problem = "Send binary messages, no text."
                return
            newest.num_dropped += newest.message is not None
            newest.message = (data, time.monotonic())
            newest.changed.set()
    finally:
        newest.has_ended = True
        newest.changed.set()


async def _answer(socket: WebSocket, seat: Seat, newest: _Newest) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # it has gone
        try:
            while (taken := await newest.take()) is not None:
                data, captured_s = taken
                if len(data) > MOST_BYTES:
                    await _end(socket, _TOO_BIG, f"More than {MOST_BYTES} bytes.")
                    return
                answer = await asyncio.to_thread(seat.push, data, captured_s)
                await socket.send_json(_to_json(answer, newest.num_dropped))
            if newest.problem:
                await _end(socket, _BAD_DATA, newest.problem)
        except InputError as error:
            await _end(socket, _BAD_DATA, str(error))
        except TimeoutError:
            await _end(socket, _NORMAL, f"No picture came for {_IDLE_S:g} s.")


async def _end(socket: WebSocket, code: int, message: str) -> None:
    await socket.send_json({"error": message})
    await socket.close(code, message[:100])


async def _events_for(client: Client, hub: Hub) -> AsyncIterator[bytes]:
    try:
        yield b": answers as they come\n\n"
        while text := await client.take():
            yield text
    finally:
        hub.leave(client)


def _to_json(answer: dict[str, Any], num_dropped: int) -> dict[str, Any]:
    steps = [step_json(step) for step in answer["steps"]]
    return {**answer, "steps": steps, "dropped": num_dropped}
