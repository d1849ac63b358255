"""Files in object stores and on web servers: list, look, read, write.

fsspec's file systems do the talking, with the credentials of their own ecosystems. What failed and
may succeed is tried again here, in one place for all of them; what S3's would try by itself is
switched off, so that the time until an error is bounded.
"""

import random
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

from headstart.common.errors import InputError
from headstart.common.urls import check_url

ATTEMPTS = 6
"""How often a request is made that fails for a reason that may pass."""

IN_FLIGHT = 16
"""How many requests are made at a time: a network answers late, but many at once."""

_FIRST_WAIT = 0.25  # seconds
_GROWTH = 2.5
_GIVEN_UP_SECONDS = 30.0
_CONNECT_SECONDS, _READ_SECONDS = 10, 60

# Of each protocol the name that fsspec knows, the module that it takes, and the extra with it.
_FILE_SYSTEMS = {
    "s3": ("s3", "s3fs", "s3"),
    "gs": ("gcs", "gcsfs", "gcs"),
    "gcs": ("gcs", "gcsfs", "gcs"),
    "abfs": ("abfs", "adlfs", "abfs"),
    "abfss": ("abfs", "adlfs", "abfs"),
    "az": ("abfs", "adlfs", "abfs"),
    "http": ("http", "aiohttp", ""),
    "https": ("http", "aiohttp", ""),
    "memory": ("memory", "fsspec", ""),
}
_LIBRARIES = frozenset(
    {"aiohttp", "aiobotocore", "botocore", "urllib3", "requests", "gcsfs", "google", "azure"}
)
# Requests that came too late, too early or too often. Source: RFC 9110, 15.5; RFC 6585, 4.
_PASSING_STATUS = frozenset({408, 425, 429})
# Source: Amazon S3 API Reference, "Error responses"; some of them come with the status 400.
_PASSING_CODES = frozenset(
    {"RequestTimeout", "SlowDown", "Throttling", "InternalError", "ServiceUnavailable"}
)
_NO_CREDENTIALS = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "ProfileNotFound"}
    | {"TokenRetrievalError", "UnauthorizedSSOTokenError", "SSOTokenLoadError"}
)

_Result = TypeVar("_Result")


class RemoteError(InputError):
    """A file elsewhere cannot be had.

    Attributes:
        reason: One line without the URL.
        lasting: Whether trying again would end the same.
    """

    lasting = True

    def __init__(self, url: str, reason: str, remedy: str) -> None:
        super().__init__(f"{url}: {reason}; {remedy}")
        self.reason = reason


class Missing(RemoteError):
    """There is no such file."""


class Forbidden(RemoteError):
    """The server does not let us have it."""


class Unreachable(RemoteError):
    """Every attempt failed."""

    lasting = False


class Found(NamedTuple):
    """What a store tells of a file.

    Attributes:
        url: Of the file.
        size: In bytes; None where it is not told.
        tag: Differs when the content does (ETag); empty where there is none.
        modified: When it was last written, in the store's words; empty where that is not told.
    """

    url: str
    size: int | None
    tag: str
    modified: str


def read(url: str, start: int | None = None, end: int | None = None) -> bytes:
    """Read a file, or its bytes from `start` to before `end`.

    Raises:
        RemoteError: it cannot be had.
        InputError: a package or credentials are missing.
    """
    system = _file_system(url)
    return bytes(_trying(url, lambda: system.cat_file(url, start=start, end=end)))


def write(url: str, data: bytes) -> None:
    """Write a file, as a whole or not at all.

    Raises:
        RemoteError: the server does not take it.
        InputError: a package or credentials are missing.
    """
    system = _file_system(url)
    _trying(url, lambda: system.pipe_file(url, data))


def look(url: str) -> Found | None:
    """Ask what a store tells of a file without reading it; None where it tells nothing.

    Raises:
        RemoteError: it cannot be had.
        InputError: a package or credentials are missing.
    """
    system, protocol = _file_system(url), _protocol(url)
    if protocol == "s3":
        bucket, key, _ = system.split_path(url)
        return _found(
            url, _trying(url, lambda: system.call_s3("head_object", Bucket=bucket, Key=key))
        )
    if protocol.startswith("http"):
        return _found(url, _trying(url, lambda: _head(system, url)))
    about = _trying(url, lambda: system.info(url, refresh=True))
    return None if about.get("type") == "directory" else _found(url, about)


def list_below(url: str, *, deep: bool = True) -> Iterator[Found]:
    """Yield the files whose URL begins with that of a folder, in the store's order.

    An empty object whose name ends with `/` stands for a folder, as consoles make them.

    Args:
        url: Of the folder.
        deep: Whether to list what lies in its folders, too.

    Raises:
        RemoteError: the store does not list it.
        InputError: a package or credentials are missing, or it is no store (http).
    """
    url = url.rstrip("/") + "/"
    protocol, system = _protocol(url), _file_system(url)
    if protocol.startswith("http"):
        raise InputError(
            f"{url}: a web server lists no files. List their URLs in a .csv with the columns "
            "path,label"
        )
    if protocol == "s3":
        yield from _list_s3(url, system, deep=deep)
        return
    found = _trying(url, lambda: system.find(url, detail=True, maxdepth=None if deep else 1))
    # Its names lack the protocol, and of some services the account.
    start = len(system._strip_protocol(url).rstrip("/")) + 1
    for name, about in found.items():
        yield _found(url + name[start:], about)


def _list_s3(url: str, system: Any, *, deep: bool) -> Iterator[Found]:
    # Page by page: a million entries in fsspec's form would take gigabytes.
    bucket, _, prefix = url.partition("://")[2].partition("/")
    asked: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix}
    if not deep:
        asked["Delimiter"] = "/"
    while True:
        page = _trying(url, lambda: system.call_s3("list_objects_v2", **asked))
        for about in page.get("Contents", ()):
            yield _found(f"s3://{bucket}/{about['Key']}", about)
        if not page.get("IsTruncated"):
            return
        asked["ContinuationToken"] = page["NextContinuationToken"]


def _found(url: str, about: dict[str, Any]) -> Found:
    told = {str(name).lower().replace("-", "").replace("_", ""): about[name] for name in about}
    size = next(
        (told[name] for name in ("size", "contentlength") if told.get(name) is not None), None
    )
    tag = str(told.get("etag") or "").strip('"')
    if told.get("md5hash"):  # which Google's store tells besides, in base 64
        tag = b64decode(str(told["md5hash"])).hex()
    modified = next(
        (told[name] for name in ("lastmodified", "updated", "mtime", "created") if told.get(name)),
        "",
    )
    return Found(url, None if size is None else int(size), tag, str(modified))


def _head(system: Any, url: str) -> dict[str, Any]:
    from fsspec.asyn import sync

    async def ask() -> dict[str, Any]:
        session = await system.set_session()
        # What is compressed on the way has another size.
        headers = {"Accept-Encoding": "identity"}
        async with session.head(
            system.encode_url(url), allow_redirects=True, headers=headers
        ) as answer:
            answer.raise_for_status()
            return dict(answer.headers)

    return dict(sync(system.loop, ask))


def _protocol(url: str) -> str:
    return url.partition("://")[0]


def _file_system(url: str) -> Any:
    with _making:
        return _opened(_protocol(url), url)


_making = threading.Lock()


def _opened(protocol: str, url: str) -> Any:
    if protocol not in _systems:
        if protocol not in _FILE_SYSTEMS:
            check_url(url, url)
        name, module, extra = _FILE_SYSTEMS[protocol]
        try:
            fsspec = import_module("fsspec")
            import_module(module)
        except ModuleNotFoundError as error:
            package = f"'headstart[{extra}]'" if extra else "fsspec aiohttp"
            raise InputError(
                f"{url}: reading {protocol}:// needs the package {error.name}, which is not "
                f"installed: run `pip install {package}`"
            ) from None
        _systems[protocol] = fsspec.filesystem(name, skip_instance_cache=True, **_settings(name))
        if name == "s3":
            _systems[protocol].retries = 1
    return _systems[protocol]


_systems: dict[str, Any] = {}


def _settings(name: str) -> dict[str, Any]:
    if name == "s3":
        return {
            "config_kwargs": {
                "connect_timeout": _CONNECT_SECONDS,
                "read_timeout": _READ_SECONDS,
                "max_pool_connections": 2 * IN_FLIGHT,
                "retries": {"total_max_attempts": 1},
            },
            # In parts, it would first ask for the size of each photo.
            "max_concurrency": 1,
            "use_listings_cache": False,
        }
    if name == "http":
        aiohttp = import_module("aiohttp")
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS
        )
        return {"client_kwargs": {"timeout": timeout}}
    return {"use_listings_cache": False} if name == "gcs" else {}


def _trying(url: str, request: Callable[[], _Result]) -> _Result:
    """Make a request, again after a growing and jittered wait while the error may pass.

    Where a server has just been given up, one attempt is enough until it answers again: others may
    be waiting for it in many threads.
    """
    server = "/".join(url.split("/", 3)[:3])
    wait = _FIRST_WAIT
    attempts = 1 if time.monotonic() < _given_up.get(server, 0.0) else ATTEMPTS
    for attempt in range(1, attempts + 1):
        try:
            answer = request()
            _given_up.pop(server, None)
            return answer
        # The libraries of four services raise errors of kinds of their own, which are not imported
        # here; what is none of theirs is raised again.
        except Exception as error:
            _raise_if_lasting(url, error)
            if attempt == attempts:
                _given_up[server] = time.monotonic() + _GIVEN_UP_SECONDS
                raise Unreachable(
                    url,
                    f"no answer in {ATTEMPTS} attempts ({_said(error)})",
                    "check the connection and the server, then run the same again",
                ) from None
            # Jitter, so that many that were refused at once do not come back at once. Source:
            # "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
            time.sleep(wait * random.uniform(0.5, 1.0))
            wait *= _GROWTH
    raise AssertionError


_given_up: dict[str, float] = {}


def _raise_if_lasting(url: str, error: Exception) -> None:
    causes = list(_causes(error))
    names = {type(cause).__name__ for cause in causes}
    status = next((found for cause in causes if (found := _status(cause))), None)
    service = url.partition("://")[0]
    if "ClientPayloadError" in names:
        return  # an answer that was cut off, which aiohttp gives a status of its own
    if names & _NO_CREDENTIALS:
        raise InputError(
            f"{url}: no credentials for {service}:// ({_said(error)}). Set them as its own tools "
            "take them, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or ~/.aws/credentials; "
            "for a public bucket FSSPEC_S3_ANON=true"
        ) from None
    if status == 404 or (status is None and isinstance(error, FileNotFoundError)):
        raise Missing(url, "no such file", "check the name, or take it out of the source") from None
    if status in (401, 403) or (status is None and isinstance(error, PermissionError)):
        raise Forbidden(
            url,
            "no permission",
            "let these credentials list and read it (for s3:// s3:ListBucket and s3:GetObject), or "
            "use others (AWS_PROFILE, AWS_ACCESS_KEY_ID)",
        ) from None
    code = next((told for cause in causes if (told := _code(cause))), "")
    if status is not None and status not in _PASSING_STATUS and status < 500:
        if code not in _PASSING_CODES:
            raise RemoteError(
                url, f"the server refuses ({_said(error)})", "put that right and run the same again"
            ) from None
        return
    known = (OSError, TimeoutError, EOFError)
    foreign = {type(cause).__module__.partition(".")[0] for cause in causes} & _LIBRARIES
    if not (isinstance(error, known) or foreign or status is not None):
        raise error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    """Return the status of HTTP that an error of one of the services tells."""
    response = getattr(error, "response", None)
    told = [getattr(error, name, None) for name in ("status", "status_code", "code")]
    if isinstance(response, dict):
        told.append(response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
    numbers = (int(str(one)) for one in told if str(one).isdigit())
    return next((number for number in numbers if 400 <= number < 600), None)


def _code(error: BaseException) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:200] if text else type(error).__name__
