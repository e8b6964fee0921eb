"""Who is let in: tokens, host names, origins."""

import asyncio

import httpx
import pytest

from svtas_jax.errors import InputError
from svtas_jax.serving import server
from svtas_jax.serving.access import Access

TOKEN = "a-long-secret"
HERE = "http://127.0.0.1:8000"


async def app(scope, receive, send):
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"inside"})


def ask(path="/", *, token="", host="127.0.0.1", base=HERE, method="GET", **headers):
    """Returns the answer of a server that says "inside" to those it lets in."""

    async def work():
        transport = httpx.ASGITransport(Access(app, host=host, token=token))
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            names = {name.replace("_", "-"): text for name, text in headers.items()}
            return await client.request(method, path, headers=names)

    return asyncio.run(work())


@pytest.mark.parametrize(
    "path, headers, status",
    [
        ("/", {}, 401),
        ("/healthz", {}, 200),
        ("/healthz/", {}, 401),
        ("/", {"authorization": f"Bearer {TOKEN}"}, 200),
        ("/", {"authorization": f"bearer {TOKEN}"}, 200),
        ("/", {"authorization": f"Basic {TOKEN}"}, 401),
        ("/", {"authorization": f"Bearer {TOKEN}x"}, 401),
        ("/", {"authorization": "Bearer "}, 401),
        ("/", {"authorization": "Bearer \xe9".encode("latin-1")}, 401),
        (f"/?token={TOKEN}", {}, 200),
        ("/?token=", {}, 401),
        ("/?" + "a=1&" * 90 + f"token={TOKEN}", {}, 401),
        ("/", {"cookie": f"svtas_jax={TOKEN}"}, 401),
        ("/", {"cookie": "svtas_jax="}, 401),
        ("/", {"cookie": '"\\;='}, 401),
    ],
)
def test_every_path_but_one_needs_the_token(path, headers, status):
    answer = ask(path, token=TOKEN, **headers)
    assert answer.status_code == status
    assert (answer.text == "inside") == (status == 200)
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "error" in answer.json() and "set-cookie" not in answer.headers


def test_the_page_gets_a_cookie_that_is_not_the_token():
    cookie = ask(f"/?token={TOKEN}", token=TOKEN).headers["set-cookie"]
    assert cookie.endswith("; Path=/; HttpOnly; SameSite=Strict")
    assert TOKEN not in cookie
    given = cookie.partition(";")[0]
    assert ask(token=TOKEN, cookie=given).text == "inside"
    assert ask(token="another secret", cookie=given).status_code == 401


def test_without_a_token_no_cookie_is_set():
    assert "set-cookie" not in ask("/?token=x").headers


@pytest.mark.parametrize(
    "base, status",
    [
        (HERE, 200),
        ("http://localhost:9999", 200),
        ("http://[::1]:8000", 200),
        ("http://LOCALHOST", 200),
        ("http://evil.example:8000", 421),
        ("http://127.0.0.1.evil.example", 421),
        ("http://localhost.evil.example", 421),
    ],
)
def test_names_of_other_machines_are_refused(base, status):
    assert ask(base=base).status_code == status


@pytest.mark.parametrize(
    "headers, status",
    [
        ({}, 200),
        ({"origin": HERE}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:8001"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"sec_fetch_site": "same-origin", "origin": HERE}, 200),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site", "origin": HERE}, 403),
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_other_sites_can_change_nothing(method, headers, status):
    for token in ("", TOKEN):
        path = f"/?token={token}" if token else "/"
        answer = ask(path, token=token, method=method, **headers)
        assert answer.status_code == status


def test_other_sites_can_embed_nothing():
    answer = ask(sec_fetch_site="cross-site", origin="http://evil.example")
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::", "example.com"])
def test_other_addresses_need_a_token(host):
    with pytest.raises(InputError, match="lets other machines in"):
        server.check_access(host, "")
    server.check_access(host, TOKEN)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_this_machine_needs_none(host):
    server.check_access(host, "")


@pytest.mark.parametrize("token", ["short", "with a space in it", "ünicode-letters"])
def test_weak_tokens_are_refused(token):
    with pytest.raises(InputError, match="--token must have at least 12"):
        server.check_access("127.0.0.1", token)


def test_a_port_in_use_is_one_message():
    with server.open_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} of 127.0.0.1 is in use"):
            server.open_socket("127.0.0.1", port)
    with pytest.raises(InputError, match="cannot be listened on"):
        server.open_socket("203.0.113.1", 0)
    with pytest.raises(InputError, match="must lie in"):
        server.open_socket("127.0.0.1", 70_000)
