"""What is asked of the feature store: an image and a view of it each, and the keys of these."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from headstart.dataset.manifest import Manifest
from headstart.extraction.store import make_keys
from headstart.features.file import FeatureFile
from headstart.images import augmentation, decoding
from headstart.images.options import AugmentOptions


class Request(NamedTuple):
    """One wanted feature vector.

    Attributes:
        path: The image file; of an image in memory, what to call it in messages.
        sha256: Hexadecimal digest that its bytes must have.
        view: 0 for the image itself, k for its k-th augmented copy.
        pixels: RGB in [0, 255], (height, width, 3) uint8, of an image in memory.
    """

    path: str
    sha256: str
    view: int = 0
    pixels: NDArray[np.uint8] | None = None


class Requests(Sequence[Request]):
    """Many requests for image files, kept by columns; each is made when it is asked for.

    Attributes:
        path: Of each file, (n_requests,).
        digest: Of its bytes, (n_requests, 32) uint8.
        view: (n_requests,).
    """

    def __init__(
        self, path: NDArray[np.object_], digest: NDArray[np.uint8], view: NDArray[np.int32]
    ) -> None:
        self.path, self.digest, self.view = path, digest, view

    def __len__(self) -> int:
        return len(self.path)

    @overload
    def __getitem__(self, index: int) -> Request: ...

    @overload
    def __getitem__(self, index: slice) -> "Requests": ...

    def __getitem__(self, index: int | slice) -> "Request | Requests":
        if isinstance(index, slice):
            return Requests(self.path[index], self.digest[index], self.view[index])
        return Request(self.path[index], self.digest[index].tobytes().hex(), int(self.view[index]))


def digests_of(requests: Sequence[Request]) -> list[str]:
    """Return the digests of all requests, without making a request of each."""
    if not isinstance(requests, Requests):
        return [request.sha256 for request in requests]
    digits = requests.digest.tobytes().hex()
    length = 2 * requests.digest.shape[1]
    return [digits[start : start + length] for start in range(0, len(digits), length)]


def views_of(requests: Sequence[Request]) -> list[int]:
    """Return the views of all requests, likewise."""
    if isinstance(requests, Requests):
        views: list[int] = requests.view.tolist()
        return views
    return [request.view for request in requests]


def request_for(image: str | Path | NDArray[np.uint8], name: str = "") -> Request:
    """Return the request for an image's own features, under the key that every stage uses.

    Args:
        image: A file, a URL, or RGB pixels in [0, 255], (height, width, 3) uint8, which are known
            by their values: a file with the same pixels has another key.
        name: What to call pixels in messages.

    Raises:
        UnreadableImage: the file cannot be read.
    """
    if isinstance(image, str | Path):
        return Request(str(image), hashlib.sha256(decoding.read(image)).hexdigest())
    digest = hashlib.sha256(f"headstart pixels {image.shape} ".encode())
    digest.update(np.ascontiguousarray(image).data)
    return Request(name, digest.hexdigest(), pixels=image)


def requests_of(
    file: FeatureFile, manifest: Manifest, rows: NDArray[np.int64] | None = None
) -> list[Request]:
    """Return what was requested for rows of a feature file.

    Args:
        file: The features.
        manifest: Their images.
        rows: Which rows; None for all.
    """
    chosen = np.arange(len(file)) if rows is None else rows
    columns = (
        manifest.columns.path[file.image[chosen]].tolist(),
        file.sha256[chosen].tolist(),
        file.view[chosen].tolist(),
    )
    return [Request(path, sha256, view) for path, sha256, view in zip(*columns, strict=True)]


def keys_of(requests: Sequence[Request], recipe: AugmentOptions | None) -> NDArray[np.uint8]:
    """Return the keys of requests in the store, (n, 32) uint8; equal ones ask for the same."""
    views = views_of(requests)
    tokens = {view: _token(view, recipe) for view in set(views)}
    return make_keys(digests_of(requests), [tokens[view] for view in views])


def _token(view: int, recipe: AugmentOptions | None) -> str:
    if recipe is None:
        if view:
            raise ValueError(f"view {view} needs a recipe")
        return "0"
    return augmentation.view_token(view, recipe)
