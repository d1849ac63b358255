"""One file over HTTP: there whole and checked, or not at all."""

import base64
import hashlib
from collections.abc import Callable
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

from headstart.common.errors import InputError
from headstart.common.files import atomic_write, sha256_of
from headstart.common.progress import progress
from headstart.common.system_errors import WriteError

PATIENCE = 30.0
"""Seconds that a server may take to say anything."""

_PIECE = 1 << 20
"""Bytes that are received and written at a time."""

Authorization = tuple[str, str] | Callable[[Any], Any] | None
"""User name and password, or what writes a request's header, as `requests` takes them."""


class WrongDigest(ValueError):
    """A file is not the one that was published; the message has its own digests."""


class DownloadError(InputError):
    """A file could not be fetched.

    Attributes:
        url: Its address.
        reason: Why, in a few words.
        status: The server's HTTP status where that is why; None otherwise.
    """

    def __init__(self, url: str, reason: str, status: int | None = None) -> None:
        super().__init__(f"the download of {url} failed: {reason}")
        self.url = url
        self.reason = reason
        self.status = status


def download(
    url: str, path: Path, *, digest: str | None = None, authorization: Authorization = None
) -> None:
    """Fetch a file into the place of `path`.

    It is checked against `digest` and the md5 that the server states, if it does. Of a download
    that fails nothing stays, and several processes may fetch the same file.

    Args:
        url: Its address; redirections are followed, without the authorization on another host.
        path: Where it will lie.
        digest: md5 (32 digits) or sha256 (64 digits) that it must have; None for any.
        authorization: Who asks.

    Raises:
        DownloadError: it does not come, not as a whole, or is another file.
        WriteError: it cannot be written.
    """
    # Here, because most runs download nothing.
    import pooch

    answers: list[Any] = []
    try:
        # pooch sets the total once it knows it; without any, a bar counts as none.
        with (
            atomic_write(path) as temporary,
            progress(total=1, desc=path.name, unit="B", scale=True) as bar,
        ):
            fetch = pooch.HTTPDownloader(
                progressbar=bar,
                chunk_size=_PIECE,
                timeout=PATIENCE,
                auth=authorization,
                # What the server states is of the bytes that it stores.
                headers={"Accept-Encoding": "identity"},
                hooks={"response": lambda answer, *_, **__: answers.append(answer)},
            )
            fetch(url, temporary, None)
            headers = answers[-1].headers
            if headers.get("Content-Type", "").startswith("text/html"):
                raise DownloadError(url, "a web page came in its place")
            for expected in (digest, _stated_md5(headers.get("x-goog-hash", ""))):
                if expected is not None:
                    checked_sha256(temporary, expected)
    except WriteError:
        raise
    except WrongDigest as error:
        raise DownloadError(url, f"another file came: {error}") from None
    # Those of the network are of this type, too.
    except OSError as error:
        answer = getattr(error, "response", None)
        if answer is None:
            raise DownloadError(url, _innermost(error)) from None
        raise DownloadError(
            url, f"{answer.status_code} {answer.reason}", answer.status_code
        ) from None


def checked_sha256(path: Path, digest: str | None) -> str:
    """Return a file's hexadecimal sha256.

    Args:
        path: The file.
        digest: Hexadecimal md5 or sha256 that it must have; None for any.

    Raises:
        WrongDigest: it has another.
    """
    sha256 = sha256_of(path)
    if digest in (None, sha256):
        return sha256
    with path.open("rb") as file:
        # Keras publishes md5 for its older weights; it guards against accidents, not attacks.
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if digest != md5:
        raise WrongDigest(f"expected digest {digest}, received md5 {md5}, sha256 {sha256}")
    return sha256


def _stated_md5(header: str) -> str | None:
    """Return the hexadecimal md5 in Google Cloud Storage's header; Keras and Kaggle store there."""
    # Source: https://cloud.google.com/storage/docs/xml-api/reference-headers#xgooghash
    parts = dict(part.strip().partition("=")[::2] for part in header.split(","))
    return base64.b64decode(parts["md5"]).hex() if "md5" in parts else None


def _innermost(error: BaseException) -> str:
    """Return what the system says against a connection, which libraries wrap several times."""
    while True:
        if isinstance(error, TimeoutError):
            return f"no answer for {PATIENCE:g} seconds"
        if isinstance(error, IncompleteRead):
            return f"broken off: {error}"
        inner = error.__cause__ or error.__context__
        if inner is None or (isinstance(error, OSError) and error.errno):
            return str(error) or type(error).__name__
        error = inner
