"""A server on this machine that plays the origin of weights: Google's storage, and Kaggle."""

import base64
import hashlib
import http.server
import threading
from types import TracebackType
from typing import Literal, Self

Fault = int | Literal["half", "stalled", "silent", "page", "hash", "pair"]

_API = "/api/v1/models/"


class Origin:
    """Serves `files` over HTTP/1.1 on 127.0.0.1.

    Addresses below Kaggle's interface are redirected, as there, to a storage under another host
    name.

    Attributes:
        files: Bytes by path.
        faults: What goes wrong, by path. A number: the server answers with that status. "half":
            the connection ends after half of the bytes. "stalled": the server falls silent there.
            "silent": it does so at once. "page": a web page comes in its place. "hash": the
            stated hash is of another file. "pair": both halves come, the second one once two have
            asked for it.
        requests: Path and headers of each request, in their order.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, Fault] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.pair = threading.Barrier(2)
        self.halves = threading.Semaphore(0)
        self.closed = threading.Event()
        origin = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                origin.requests.append((self.path, dict(self.headers)))
                origin.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it; from now on connections are refused."""
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        path, fault = handler.path, self.faults.get(handler.path)
        if fault == "silent":
            self.closed.wait()
        elif isinstance(fault, int):
            handler.send_error(fault)
        elif path not in self.files:
            handler.send_error(404)
        elif path.startswith(_API):
            self._redirect(handler)
        elif fault == "page":
            self._send(handler, b"<html>please log in</html>", "text/html; charset=utf-8")
        else:
            self._send(handler, self.files[path], "application/octet-stream", fault)

    def _redirect(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        path = "/storage/" + handler.path.removeprefix(_API)
        self.files[path] = self.files[handler.path]
        if handler.path in self.faults:
            self.faults[path] = self.faults[handler.path]
        else:
            self.faults.pop(path, None)
        handler.send_response(302)
        handler.send_header("Location", f"{self.url.replace('127.0.0.1', 'localhost')}{path}")
        handler.send_header("Content-Type", "text/html")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def _send(
        self,
        handler: http.server.BaseHTTPRequestHandler,
        content: bytes,
        kind: str,
        fault: Fault | None = None,
    ) -> None:
        stated = content + b"others" if fault == "hash" else content
        md5 = hashlib.md5(stated, usedforsecurity=False).digest()
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(content)))
        handler.send_header("X-Goog-Hash", f"crc32c=n03x6A==,md5={base64.b64encode(md5).decode()}")
        handler.end_headers()
        half = len(content) // 2
        handler.wfile.write(content[:half])
        self.halves.release()
        if fault == "half":
            handler.close_connection = True
            return
        if fault == "stalled":
            self.closed.wait()
        elif fault == "pair":
            self.pair.wait(timeout=60)
        handler.wfile.write(content[half:])
