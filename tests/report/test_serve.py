import http.client
import json
import socket
import struct
import threading

import pytest

from conceptseg.domain.errors import ConceptSegError
from conceptseg.report.serve import MAX_BODY_BYTES, ReviewServer


def fail(_):
    raise ConceptSegError("QuPath has it open.")


@pytest.fixture
def server():
    server = ReviewServer(page=lambda token: f"<p>{token}</p>", actions={"labels": lambda x: {"got": x}, "apply": fail})
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield server
    server.close()
    thread.join()


def ask(server, method="POST", path=None, body='{"a": 1}', **headers):
    host = server.url.split("/")[2]
    connection = http.client.HTTPConnection(host, timeout=10)
    defaults = {
        "Authorization": f"Bearer {server.token}",
        "Content-Type": "application/json",
        "Origin": f"http://{host}",
    }
    sent = {k.replace("_", "-"): v for k, v in (defaults | headers).items() if v is not None}
    connection.request(method, path or f"/{server.token}/labels", body if method == "POST" else None, sent)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, json.loads(text) if text.startswith("{") else text


def test_the_page_comes_to_whoever_knows_its_address(server):
    assert ask(server, "GET", f"/{server.token}/") == (200, f"<p>{server.token}</p>")
    for path in ("/", "/x/", f"/{server.token}", f"/{server.token}/other", f"/{server.token[:-1]}/"):
        assert ask(server, "GET", path)[0] == 404


def test_a_request_of_the_page_is_answered(server):
    assert ask(server) == (200, {"got": {"a": 1}})
    assert ask(server, Origin=None)[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": None}, 403),
        ({"Authorization": "Bearer wrong"}, 403),
        ({"Authorization": "Bearer té"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Length": str(MAX_BODY_BYTES + 1)}, 413),
        ({"Content_Length": "many"}, 411),
        ({"body": "{"}, 400),
        ({"body": '{"a": ' + "[" * 900 + "]" * 900 + "}"}, 400),
        ({"body": '{"a": "\\ud800"}'}, 400),
        ({"path": "/wrong/labels"}, 404),
        ({"path": "/labels"}, 404),
        ({"path": "/secret"}, 404),
    ],
)
def test_everything_else_is_refused(server, headers, status):
    assert ask(server, **headers)[0] == status


def test_what_keeps_the_page_from_being_made_is_told_in_its_place():
    server = ReviewServer(page=fail, actions={})
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        status, text = ask(server, "GET", f"/{server.token}/")
    finally:
        server.close()
        thread.join()
    assert (status, text) == (409, "QuPath has it open.\nThen reload this page.")


def test_what_nobody_thought_of_is_an_answer_too(caplog):
    def broken(_):
        raise ZeroDivisionError

    server = ReviewServer(page=broken, actions={"labels": broken})
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        for answer in (ask(server, "GET", f"/{server.token}/"), ask(server)):
            assert answer[0] == 500
            assert "report it" in answer[1]["message"]
    finally:
        server.close()
        thread.join()
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError] * 2


def test_a_browser_that_goes_away_in_the_middle_prints_no_traceback(server, monkeypatch, capfd):
    ended = threading.Event()
    process = server._http.process_request_thread

    def watched(*arguments):
        process(*arguments)
        ended.set()

    monkeypatch.setattr(server._http, "process_request_thread", watched)
    host, port = server.url.split("/")[2].split(":")
    with socket.create_connection((host, int(port))) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets
        client.sendall(
            f"POST /{server.token}/labels HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {server.token}\r\nContent-Length: 100\r\n\r\n{{".encode()
        )
    assert ended.wait(30)
    assert capfd.readouterr().err == ""
    assert ask(server)[0] == 200


def test_what_an_action_refuses_reaches_the_page(server):
    assert ask(server, path=f"/{server.token}/apply") == (409, {"message": "QuPath has it open."})


def test_every_server_has_its_own_token():
    first, second = (ReviewServer(page=str, actions={}) for _ in range(2))
    assert first.token != second.token
    first.release()
    second.release()


def test_a_taken_port_is_said(server):
    with pytest.raises(ConceptSegError, match="--port"):
        ReviewServer(page=str, actions={}, port=int(server.url.split(":")[2].split("/")[0]))
