"""Cameras that are not there when the server starts."""

from loopback import plays


def test_an_absent_camera_is_waited_for(run, tools, camera):
    """It answers with a page first, as cameras do while they start."""

    def starts(client):
        client.send(b"HTTP/1.0 503 Service Unavailable\r\n\r\n")

    address, _ = camera(*[starts] * 3, plays(range(60), lambda client: client.stall()))
    with tools.serving(run, [address]) as client:

        def source():
            return client.get("/sources/0").json()

        waiting = tools.until(lambda: (s := source())["reason"] and s)
        assert waiting["state"] == "waiting"
        assert "gives no pictures" in waiting["reason"]
        tools.until(lambda: source()["state"] == "live")
        tools.until(lambda: not source()["reason"])
        assert source()["counters"]["reconnects"] == 3
