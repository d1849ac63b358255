"""A real object store on this machine, and a server before it that counts and refuses requests."""

import http.client
import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread

import pytest

BUCKET = "photos"
_SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=anyone/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=anything"
}


class Store:
    """An S3 server with one bucket.

    Attributes:
        url: Of the server that counts.
        requests: How many came, by method and what was done ("LIST", "GET", "HEAD", "PUT").
        failing: Share of the requests that are refused as long as that, with the status 503.
    """

    def __init__(self, host: str, port: int) -> None:
        self._at = host, port
        self._lock = Lock()
        self._random = random.Random(7)
        self.url = ""
        self.requests: Counter[str] = Counter()
        self.failing = 0.0
        self.status = 503

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple:
        connection = http.client.HTTPConnection(*self._at)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def put(self, key: str, content: bytes) -> str:
        """Write an object and return its URL."""
        status, _, said = self.ask("PUT", f"/{BUCKET}/{key}", content, **_SIGNED)
        assert status == 200, said
        return f"s3://{BUCKET}/{key}"

    def put_folder(self, folder: Path, prefix: str) -> str:
        """Write the files below a folder and return the URL that stands for it."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return f"s3://{BUCKET}/{prefix}"

    def refuses(self) -> bool:
        with self._lock:
            return self._random.random() < self.failing

    def count(self, method: str, path: str) -> None:
        with self._lock:
            self.requests["LIST" if "list-type" in path else method] += 1


@contextmanager
def object_store() -> Iterator[Store]:
    """Start both servers; what this process and those it starts take for S3 is theirs."""
    server = pytest.importorskip("moto.server", reason="needs moto[server]")
    moto = server.ThreadedMotoServer(port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    store = Store("127.0.0.1" if host == "0.0.0.0" else host, port)
    status, _, said = store.ask("PUT", f"/{BUCKET}", **_SIGNED)
    assert status == 200, said
    front = ThreadingHTTPServer(("127.0.0.1", 0), _handler(store))
    Thread(target=front.serve_forever, daemon=True).start()
    store.url = f"http://127.0.0.1:{front.server_address[1]}"
    try:
        yield store
    finally:
        front.shutdown()
        front.server_close()
        moto.stop()


def environment(store: Store) -> dict[str, str]:
    """Return the variables that lead S3's own tools to a store."""
    return {
        "AWS_ENDPOINT_URL": store.url,
        "AWS_ACCESS_KEY_ID": "anyone",
        "AWS_SECRET_ACCESS_KEY": "anything",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what this process knows of stores, as a new one would."""
    from headstart.common import remote
    from headstart.dataset import file_states

    monkeypatch.setattr(remote, "_systems", {})
    monkeypatch.setattr(remote, "_given_up", {})
    monkeypatch.setattr(file_states, "_told", {})


def _handler(store: Store) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            store.count(self.command, self.path)
            if store.refuses():
                status, headers, content = store.status, [], b""
            else:
                given = {
                    name: value
                    for name, value in self.headers.items()
                    if name.lower() not in ("host", "connection", "content-length", "expect")
                }
                status, headers, content = store.ask(self.command, self.path, body, **given)
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                    self.send_header(name, value)
            length = dict(headers).get("Content-Length", "0")
            self.send_header(
                "Content-Length", length if self.command == "HEAD" else str(len(content))
            )
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815 - named by the base class

        def log_message(self, *_: object) -> None:
            pass

    return Handler
