"""What the explorer's server lets in: names, origins, the token, methods, and strict JSON."""

import asyncio
import json

import pytest
from starlette.responses import PlainTextResponse

from dtx.app.guard import BODY, DEPTH, NOT_FRAMED, Guard, Refused, parse

TOKEN = "a-secret"
JSON = {"host": "127.0.0.1:5050", "content-type": "application/json"}


def ask(headers, method="POST", names=(), token=None, path="/", query=""):
    """Status and headers of an answer; ``headers`` are pairs, or a mapping."""
    pairs = headers.items() if isinstance(headers, dict) else headers
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(n.lower().encode(), v.encode("latin-1")) for n, v in pairs],
    }
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    guard = Guard(PlainTextResponse("let in"), names, token)
    asyncio.run(guard(scope, receive, send))
    assert [m["type"] for m in sent] == ["http.response.start", "http.response.body"]
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    if sent[0]["status"] != 200:
        assert list(json.loads(sent[1]["body"])) == ["error"]
    return sent[0]["status"], found


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:5050", "localhost:1", "LocalHost:80", "[::1]:5050"]
)
def test_the_names_of_loopback_are_let_in(host):
    assert ask({**JSON, "host": host})[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        *("example.com", "127.0.0.1.example.com", "127.0.0.1@example.com", "127.0.0.2"),
        *("", ":5050", "localhost:", "localhost:x", "localhost:123456", "[::1", "localhost, a.b"),
        *("localhost.", "127.0.0.1:5050/", "\xff", "[::1]]", "127.1", "0177.0.0.1", "2130706433"),
    ],
)
def test_other_names_are_refused_for_every_method(host):
    for method in ("GET", "HEAD", "POST"):
        assert ask({**JSON, "host": host}, method)[0] == 403


def test_a_host_must_be_there_once():
    assert ask({"content-type": "application/json"})[0] == 400
    assert ask([*JSON.items(), ("host", "127.0.0.1:5050")])[0] == 400


def test_names_that_are_given_are_let_in():
    assert ask({**JSON, "host": "machine.lab:5050"}, names={"Machine.lab"})[0] == 200
    assert ask({**JSON, "host": "machine.lab:5050"})[0] == 403


@pytest.mark.parametrize("origin", ["http://127.0.0.1:5050", "https://127.0.0.1:5050"])
def test_an_origin_is_the_host(origin):
    assert ask({**JSON, "origin": origin})[0] == 200


@pytest.mark.parametrize(
    "origin",
    [
        *("http://example.com", "null", "", "http://127.0.0.1", "http://127.0.0.1:5051"),
        *("file://", "http://localhost:5050", "http://127.0.0.1:5050.a.b", "127.0.0.1:5050/"),
    ],
)
def test_another_origin_is_refused(origin):
    assert ask({**JSON, "origin": origin})[0] == 403
    assert ask({**JSON, "origin": origin}, "GET")[0] == 403


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "X"])
def test_other_methods_are_refused(method):
    status, headers = ask(JSON, method)
    assert (status, headers["allow"]) == (405, "GET, HEAD, POST")


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonp", "json"]
)
def test_a_post_is_json_by_its_type(kind):
    assert ask({**JSON, "content-type": kind})[0] == 415


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON"])
def test_the_type_may_have_parameters(kind):
    assert ask({**JSON, "content-type": kind})[0] == 200


def test_a_post_without_a_type_is_refused():
    assert ask({"host": "localhost"})[0] == 400


def test_with_a_token_a_post_needs_it_and_a_file_does_not():
    assert ask(JSON, token=TOKEN)[0] == 401
    assert ask({"host": "localhost"}, "GET", token=TOKEN)[0] == 200
    for wrong in ("", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer", "Bearer \xff"):
        assert ask({**JSON, "authorization": wrong}, token=TOKEN)[0] == 401
    for right in (f"Bearer {TOKEN}", f"bearer {TOKEN}"):
        assert ask({**JSON, "authorization": right}, token=TOKEN)[0] == 200


def test_every_answer_has_the_headers():
    for status, headers in (ask(JSON, "GET"), ask({**JSON, "host": "example.com"})):
        assert status in (200, 403)
        assert headers["content-security-policy"].startswith("default-src 'self'; ")
        assert headers["content-security-policy"].endswith(NOT_FRAMED)
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert not {"set-cookie", "access-control-allow-origin"} & headers.keys()


def test_only_who_has_the_token_may_put_the_page_into_a_frame():
    def framed(query, token):
        _, headers = ask({"host": "localhost"}, "GET", token=token, query=query)
        return NOT_FRAMED not in headers["content-security-policy"]

    assert framed(f"frame={TOKEN}", TOKEN)
    assert not framed("frame=other", TOKEN) and not framed("", TOKEN)
    assert not framed("frame=", None) and not framed(f"frame={TOKEN}", None)


# --- JSON --------------------------------------------------------------------------------------------


def nested(depth):
    return b'{"a":' * depth + b"1" + b"}" * depth


@pytest.mark.parametrize(
    "data", [b"{}", b'{"a": [1, 2.5, "\xc3\xa4", null, true]}', nested(DEPTH), b' {"a": {}} ']
)
def test_json_is_read(data):
    assert parse(data) == json.loads(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (nested(DEPTH + 1), "deep"),
        (nested(100_000), "deep"),
        (b"[" * 60_000, "deep"),
        (b'{"a": ' + b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1) + b"}", "deep"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": ' + b"9" * 50_000 + b"}", "no JSON"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": "\xff"}', "no JSON"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b"\xef\xbb\xbf{}", "no JSON"),
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"{} {}", "no JSON"),
        (b"{'a': 1}", "no JSON"),
        (b"[]", "object"),
        (b'"text"', "object"),
        (b"null", "object"),
        (b'{"a": "\x00"}', "no JSON"),
    ],
)
def test_what_is_no_strict_json_is_refused_in_one_line(data, why):
    with pytest.raises(Refused, match=why) as refused:
        parse(data)
    assert refused.value.status == 400
    assert len(str(refused.value)) < 300 and "\n" not in str(refused.value)


def test_a_body_of_the_largest_size_is_read():
    assert len(parse(b'{"a": "' + b"x" * (BODY - 10) + b'"}')["a"]) == BODY - 10
