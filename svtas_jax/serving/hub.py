"""Passes events on to any number of clients, none of which can hold up the model.

Events come from any thread. They are written as text once, gathered for a moment, and
put into a bounded queue for every client; one that reads too slowly loses the oldest
and learns how many.
"""

import asyncio
import collections
import contextlib
import json
import threading
from typing import Any, NamedTuple

GATHER_S = 0.03
MOST_CLIENTS = 1000
_MOST_BATCHES = 64  # that wait for one client
_MOST_GATHERED = 4096


class Event(NamedTuple):
    """An event of the text/event-stream format.

    Attributes:
        kind: its name.
        source: number of the source, None if it is about all of them.
        text: as it is sent.
    """

    kind: str
    source: int | None
    text: bytes


def event_text(kind: str, data: dict[str, Any]) -> bytes:
    """Returns an event as it is sent (WHATWG HTML, section 9.2, server-sent events)."""
    return f"event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


class Client:
    """The queue of one client.

    Args:
        source: passes only this source's events on, and those about all.
        steps: whether events of single steps are passed on.
    """

    def __init__(self, *, source: int | None = None, steps: bool = True) -> None:
        self._source, self._steps = source, steps
        self._batches: collections.deque[list[Event]] = collections.deque()
        self._num_lost, self._is_closed = 0, False
        self._changed = asyncio.Event()

    def put(self, events: list[Event], num_lost: int = 0) -> None:
        """Adds events, and the number of those that were lost on the way."""
        self._num_lost += num_lost
        wanted = [event for event in events if self._wants(event)]
        if not wanted:
            return
        if len(self._batches) >= _MOST_BATCHES:
            self._num_lost += len(self._batches.popleft())
        self._batches.append(wanted)
        self._changed.set()

    def close(self) -> None:
        """Lets `take` return nothing from now on."""
        self._is_closed = True
        self._changed.set()

    async def take(self) -> bytes:
        """Returns what waits, as soon as something does; nothing once closed."""
        await self._changed.wait()
        if self._is_closed:
            return b""
        self._changed.clear()
        batches, self._batches = self._batches, collections.deque()
        lost, self._num_lost = self._num_lost, 0
        text = b"".join(event.text for batch in batches for event in batch)
        return event_text("lost", {"events": lost}) + text if lost else text

    def _wants(self, event: Event) -> bool:
        if event.kind == "step" and not self._steps:
            return False
        return None in (self._source, event.source) or event.source == self._source


class Hub:
    """The clients, and what is to be sent to them."""

    def __init__(self) -> None:
        self._clients: set[Client] = set()
        self._lock = threading.Lock()
        self._gathered: list[Event] = []
        self._num_lost = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()

    @property
    def num_clients(self) -> int:
        """How many listen now."""
        return len(self._clients)

    def publish(self, kind: str, data: dict[str, Any]) -> None:
        """Sends an event to all clients; from any thread.

        `data["source"]` is the number of the source that it is about.
        """
        if not self._clients or self._loop is None:
            return
        event = Event(kind, data.get("source"), event_text(kind, data))
        with self._lock:
            is_first = not self._gathered
            if len(self._gathered) < _MOST_GATHERED:
                self._gathered.append(event)
            else:
                self._num_lost += 1
        if is_first:
            with contextlib.suppress(RuntimeError):  # the loop has just ended
                self._loop.call_soon_threadsafe(self._wake.set)

    def join(self, client: Client) -> bool:
        """Adds a client; returns False if there are too many."""
        if len(self._clients) >= MOST_CLIENTS:
            return False
        self._clients.add(client)
        return True

    def leave(self, client: Client) -> None:
        """Takes a client out."""
        self._clients.discard(client)

    def close(self) -> None:
        """Ends the streams of all clients."""
        for client in self._clients:
            client.close()

    async def run(self) -> None:
        """Passes events on until it is cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            with self._lock:
                events, self._gathered = self._gathered, []
                num_lost, self._num_lost = self._num_lost, 0
            for client in tuple(self._clients):
                client.put(events, num_lost)
            await asyncio.sleep(GATHER_S)
