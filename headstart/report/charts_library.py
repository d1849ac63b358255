"""plotly.js as the page carries it."""

import base64
import functools
import gzip
import hashlib
import zlib
from importlib.metadata import version

from headstart.common.cache import PAGES, Keep
from headstart.common.code import digest_of_code


@functools.cache
def compressed_plotly() -> tuple[str, str]:
    """Return plotly.js gzipped in base64, two fifths of its size, and its digest."""
    keep = Keep(PAGES)
    key = {
        "plotly": version("plotly"),
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        "code": digest_of_code(["report/charts_library.py"]),
    }
    content = keep.get(key)
    if content is None:
        # Here, because reading its 5 MB takes longer than reading what is kept.
        from plotly.offline import get_plotlyjs

        script = get_plotlyjs()
        packed = base64.b64encode(gzip.compress(script.encode(), compresslevel=9, mtime=0))
        content = {"gzip": packed.decode(), "policy": digest_for_policy(script)}
        keep.put(key, content)
    return content["gzip"], content["policy"]


def digest_for_policy(script: str) -> str:
    """Return how a page's policy names a script that may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
