"""Events reach every client, and a slow one holds nobody up."""

import asyncio
import json

from svtas_jax.serving.hub import Client, Hub


def events_in(text):
    """Returns the kind and data of every event of a stream."""
    blocks = [b.split("\n") for b in text.decode().split("\n\n") if "event: " in b]
    return [(b[0].removeprefix("event: "), json.loads(b[1][6:])) for b in blocks]


async def with_hub(work):
    hub = Hub()
    task = asyncio.create_task(hub.run())
    await asyncio.sleep(0)
    try:
        return await asyncio.wait_for(work(hub), 10)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_clients_get_what_they_ask_for():
    async def work(hub):
        clients = [Client(), Client(source=1), Client(steps=False)]
        assert all(hub.join(client) for client in clients)
        for source in (0, 1):
            await asyncio.to_thread(hub.publish, "step", {"source": source})
        hub.publish("segment", {"source": 1, "label": "gießen"})
        hub.publish("counters", {"sources": []})
        await asyncio.sleep(0.1)
        return [events_in(await client.take()) for client in clients]

    every, one, segments = asyncio.run(with_hub(work))
    assert [kind for kind, _ in every] == ["step", "step", "segment", "counters"]
    assert [kind for kind, _ in one] == ["step", "segment", "counters"]
    assert [kind for kind, _ in segments] == ["segment", "counters"]
    assert every[2][1]["label"] == "gießen"


def test_a_slow_client_loses_the_oldest_and_learns_how_many():
    async def work(hub):
        slow, quick = Client(), Client()
        assert hub.join(slow) and hub.join(quick)
        seen = []
        for number in range(70):
            hub.publish("step", {"source": 0, "number": number})
            seen += events_in(await quick.take())
        return seen, events_in(await slow.take())

    seen, late = asyncio.run(with_hub(work))
    assert [data["number"] for _, data in seen] == list(range(70))
    assert late[0] == ("lost", {"events": 6})
    assert [data["number"] for _, data in late[1:]] == list(range(6, 70))


def test_a_flood_is_bounded_and_counted():
    async def work(hub):
        client = Client()
        hub.join(client)
        for number in range(5000):  # the hub has no chance to run
            hub.publish("step", {"source": 0, "number": number})
        return events_in(await client.take())

    found = asyncio.run(with_hub(work))
    assert found[0] == ("lost", {"events": 5000 - 4096}) and len(found) == 4097


def test_closing_ends_the_stream():
    async def work(hub):
        client = Client()
        hub.join(client)
        hub.close()
        return await client.take()

    assert asyncio.run(with_hub(work)) == b""
