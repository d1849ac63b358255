"""Requests that fail are made again, or not, and what is told of them."""

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from headstart.common import remote
from headstart.common.errors import InputError
from headstart.common.urls import (
    absolute,
    check_url,
    is_url,
    name_of,
    split_member,
    suffix_of,
    within,
)

CONTENT = b"0123456789"
Serve = Callable[..., str]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Start a web server that answers with these statuses in turn, the last one for good.

    `0` hangs up in the middle of the answer.
    """
    monkeypatch.setattr(remote, "_FIRST_WAIT", 0.001)
    monkeypatch.setattr(remote, "_given_up", {})
    servers = []

    def start(*statuses: int) -> str:
        left = list(statuses)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                status = left.pop(0) if len(left) > 1 else left[0]
                self.send_response(status or 200)
                self.send_header("Content-Length", str(len(CONTENT)))
                self.send_header("ETag", '"a tag"')
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(CONTENT if status else CONTENT[:3])

            do_HEAD = do_GET  # noqa: N815 - named by the base class

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/a.jpg"

    asked.clear()
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


asked: list[str] = []


@pytest.mark.parametrize("statuses", [(503, 200), (429, 500, 200), (0, 0, 200), (408, 502, 0, 200)])
def test_what_may_pass_is_tried_again(serve: Serve, statuses: tuple[int, ...]) -> None:
    assert remote.read(serve(*statuses)) == CONTENT
    assert len(asked) == len(statuses)


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (404, remote.Missing, "a.jpg: no such file; check the name"),
        (403, remote.Forbidden, "a.jpg: no permission; let these credentials"),
        (401, remote.Forbidden, "a.jpg: no permission"),
        (410, remote.RemoteError, "a.jpg: the server refuses .*410"),
    ],
)
def test_what_stays_is_told_at_once(
    serve: Serve, status: int, kind: type[remote.RemoteError], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        remote.read(serve(status))
    assert caught.value.lasting
    assert len(asked) == 1


def test_a_server_that_never_answers(serve: Serve) -> None:
    url = serve(*[503] * 8, 200, 503, 503, 200)
    with pytest.raises(remote.Unreachable, match=r"a.jpg: no answer in 6 attempts \(503") as caught:
        remote.read(url)
    assert not caught.value.lasting
    assert len(asked) == remote.ATTEMPTS
    # It is not asked six times for each of the others.
    for _ in range(2):
        with pytest.raises(remote.Unreachable):
            remote.read(url)
    assert len(asked) == remote.ATTEMPTS + 2
    # Until it answers.
    assert remote.read(url) == CONTENT
    assert remote.read(url) == CONTENT


def test_no_server(serve: Serve) -> None:
    with pytest.raises(remote.Unreachable, match="no answer in 6 attempts"):
        remote.read("http://127.0.0.1:9/a.jpg")


def test_what_a_server_tells(serve: Serve) -> None:
    url = serve(200)
    assert remote.look(url) == remote.Found(url, 10, "a tag", "")


def test_a_store_in_memory() -> None:
    url = "memory://headstart-test/features"
    remote.write(f"{url}/a.h5", b"one")
    remote.write(f"{url}/deep/b.h5", b"two")
    assert {one.url: one.size for one in remote.list_below(url)} == {
        f"{url}/a.h5": 3,
        f"{url}/deep/b.h5": 3,
    }
    assert [one.url for one in remote.list_below(url, deep=False)] == [f"{url}/a.h5"]
    assert remote.read(f"{url}/deep/b.h5", 1, 3) == b"wo"
    found = remote.look(f"{url}/a.h5")
    assert found is not None
    assert found.modified
    with pytest.raises(remote.Missing):
        remote.read(f"{url}/c.h5")
    assert list(remote.list_below("memory://headstart-test/none")) == []


def test_names() -> None:
    assert is_url("s3://b/a.jpg")
    assert not is_url("s3:/b/a.jpg")
    assert not is_url("a folder/:// odd")
    assert name_of("s3://b/cat/") == "cat"
    assert within("s3://b/list", "a.jpg") == "s3://b/list/a.jpg"
    assert within("photos", "s3://b/a.jpg") == "s3://b/a.jpg"
    assert within("photos", "/a.jpg") == "/a.jpg"
    assert absolute("s3://b/a.jpg") == "s3://b/a.jpg"
    assert split_member("s3://b/0.tar/x/1.jpg") == ("s3://b/0.tar", "x/1.jpg")
    assert split_member("0.tar") is None
    assert suffix_of("https://h/a.JPG?width=3#x") == ".jpg"
    assert suffix_of("s3://b/a?b.png") == ".png"


@pytest.mark.parametrize("url", ["s3://me:secret@bucket/x", "https://me:secret@host"])
def test_passwords_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InputError, match="list.csv, line 2: a .*:// URL holds a pass") as caught:
        check_url(url, "list.csv, line 2")
    assert "secret" not in str(caught.value)
    assert check_url("abfs://container@account.host/x", "here")
