"""From images to feature vectors, as a transformer of scikit-learn."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import NotFittedError

from headstart.api.images import ImageLike, as_list, refuse, requests_for
from headstart.api.table import feature_names
from headstart.common.params import check
from headstart.extraction import engines
from headstart.extraction.bottleneck import Bottleneck, identify
from headstart.extraction.extract import Extraction, extract
from headstart.extraction.options import ExtractOptions
from headstart.extraction.requests import Request
from headstart.extraction.store import FeatureStore


class BottleneckFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # bases without types
    """Turn images into bottleneck features of a pretrained backbone.

    Every vector is computed once: it is kept in the feature store that the pipeline uses, under the
    image's content and everything that can change a number. So each further fold of a
    cross-validation, and each further run, costs no forward pass.

    The transformer learns nothing from the data; `fit` checks the parameters and finds out the
    number of features.

    Args:
        backbone: Name in the catalog; `headstart.backbones()` lists them.
        weights: "pretrained", "random" or the path of a weights file; of KerasHub's backbones, of
            a preset's folder.
        layer: "auto" for the last feature layer, or the name of an earlier cut.
        pooling: What is done to a spatial map: "avg", "max" or "none" (it is flattened); of a
            transformer with class tokens also "cls", "cls+avg" or "last4".
        image_size: "auto" for the backbone's own, one side or (height, width), in pixels.
        resize: How an image of another shape gets there: "stretch", "crop" or "pad".
        seed: Of random weights.
        engine: "auto", "openvino" or "tensorflow".
        precision: Arithmetic of the forward pass: "float32", "bfloat16" or "float16".
        onnx: How the network of a file is fed (`backbone="onnx"`, `weights="model.onnx"`): the keys
            of section `extract.onnx` of params.yaml, such as `{"mean": [0.5, 0.5, 0.5]}`.
        cache: Folder of the feature store; None for the user's own.

    Attributes:
        n_features_out_: Number of features, known once `fit` or `transform` has seen an image.

    Examples:
        >>> import numpy as np
        >>> from headstart import BottleneckFeatures
        >>> images = np.zeros((2, 32, 32, 3), np.uint8)
        >>> features = BottleneckFeatures("LeNet5", weights="random", image_size=32)
        >>> features.fit_transform(images).shape
        (2, 120)
    """

    n_features_out_: int

    def __init__(
        self,
        backbone: str = "EfficientNetLite0",
        *,
        weights: str = "pretrained",
        layer: str = "auto",
        pooling: str = "avg",
        image_size: str | int | tuple[int, int] = "auto",
        resize: str = "stretch",
        seed: int = 0,
        engine: str = "auto",
        precision: str = "float32",
        onnx: dict[str, Any] | None = None,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.layer = layer
        self.pooling = pooling
        self.image_size = image_size
        self.resize = resize
        self.seed = seed
        self.engine = engine
        self.precision = precision
        self.onnx = onnx
        self.cache = cache

    def fit(self, X: Iterable[ImageLike] | NDArray[Any], y: ArrayLike | None = None) -> Self:
        """Check the parameters, and find the number of features with the first image.

        Args:
            X: Images; see `transform`.
            y: Ignored.

        Raises:
            InputError: a parameter cannot be used, or the first image cannot be read.
        """
        images = as_list(X)
        self._vectors(requests_for(images[:1]))
        return self

    def transform(self, X: Iterable[ImageLike] | NDArray[Any]) -> NDArray[np.float32]:
        """Return the features of images, computing those that the store lacks.

        Args:
            X: Paths, Pillow images, arrays of RGB pixels (height, width, 3) uint8 of any sizes, or
                one array (n_images, height, width, 3).

        Returns:
            (n_images, n_features_out_) float32.

        Raises:
            InputError: a parameter cannot be used, or images cannot be read; the message names
                them.
        """
        images = as_list(X)
        return self._vectors(requests_for(images))

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return a name per feature: backbone, layer and number.

        Args:
            input_features: Ignored; images have no features of their own.

        Raises:
            NotFittedError: no image has been seen yet, which would tell how many there are.
        """
        if not hasattr(self, "n_features_out_"):
            raise NotFittedError(
                "the number of features is known once an image was seen: call fit or transform"
            )
        return feature_names(self._current().bottleneck.taps[0], self.n_features_out_)

    def _current(self) -> "_Extractor":
        """Return what the present parameters mean; found anew only when they have changed."""
        content = {
            "backbone": self.backbone,
            "weights": os.fspath(self.weights),
            "layer": self.layer,
            "pooling": self.pooling,
            # Grids of parameters may come from NumPy, whose numbers are not Python's.
            "image_size": np.asarray(self.image_size).tolist(),
            "resize": self.resize,
            "seed": np.asarray(self.seed).tolist(),
            "engine": self.engine,
            "precision": self.precision,
            "onnx": self.onnx,
            "augment": {"views": 0, "seed": 0},
        }
        store = FeatureStore(None if self.cache is None else Path(self.cache))
        key = (content, store.root, _changed(Path(self.weights)))
        known: _Extractor | None = getattr(self, "_extractor", None)
        if known is None or known.key != key:
            options = check(content, ExtractOptions, "BottleneckFeatures")
            bottleneck = identify(
                options, engines.resolve(options.engine, options.precision, options.backbone)
            )
            known = self._extractor = _Extractor(key, bottleneck, store)
        return known

    def _vectors(self, requests: list[Request]) -> NDArray[np.float32]:
        vectors = self._current().vectors(requests)
        flat = vectors.reshape(len(vectors), -1)
        self.n_features_out_ = flat.shape[1]
        return flat

    def __getstate__(self) -> dict[str, Any]:
        # An engine and an index of the store are no part of what the transformer is.
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_extractor"}

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags


@dataclass
class _Extractor:
    """What some parameters mean, with the engine and the store's index that were used last.

    Attributes:
        key: The parameters.
        bottleneck: What to compute.
        store: Where features are kept.
        previous: The last extraction.
    """

    key: tuple[object, ...]
    bottleneck: Bottleneck
    store: FeatureStore
    previous: Extraction | None = None

    def vectors(self, requests: list[Request]) -> NDArray[np.float32]:
        """Return the features of images, (n_images, *feature_shape).

        Raises:
            InputError: images cannot be decoded; the message names them.
        """
        unreadable: dict[str, str] = {}
        self.previous = extract(
            self.bottleneck,
            requests,
            store=self.store,
            load=engines.load,
            previous=self.previous,
            unreadable=unreadable,
        )
        vectors = self.previous.array()
        self.previous.release()
        refuse([f"{path}: {reason}" for path, reason in unreadable.items()])
        return vectors


def _changed(weights: Path) -> tuple[tuple[int, int], ...]:
    """Return size and time of a file, or of those of a preset's folder, which may be written anew.

    Nothing where there is neither.
    """
    files = sorted(weights.iterdir()) if weights.is_dir() else [weights]
    found = [file.stat() for file in files if file.exists()]
    return tuple((status.st_size, status.st_mtime_ns) for status in found)
