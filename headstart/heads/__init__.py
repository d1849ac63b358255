"""Classifiers on cached bottleneck features, one module per kind.

A kind is resolved to its class only when it is asked for, so that a head without TensorFlow never
imports it.
"""

from importlib import import_module
from pathlib import Path

from headstart.common.errors import InputError
from headstart.heads.base import CARD_FILE, Head, read_card
from headstart.heads.options import HeadOptions

_CLASSES = {
    "dense": "headstart.heads.dense:DenseHead",
    "gap": "headstart.heads.gap:GapHead",
    "linear_svc": "headstart.heads.linear_svc:LinearSVCHead",
    "logistic": "headstart.heads.logistic:LogisticHead",
    "ridge": "headstart.heads.ridge:RidgeHead",
    "prototype": "headstart.heads.prototype:PrototypeHead",
    "knn": "headstart.heads.knn:KnnHead",
}


def _class_of(kind: str) -> type[Head]:
    module, name = _CLASSES[kind].split(":")
    found: type[Head] = getattr(import_module(module), name)
    return found


def is_cheap(options: HeadOptions) -> bool:
    """Return whether the head takes a moment to fit: whether it needs no TensorFlow."""
    return options.kind not in ("dense", "gap")


def create(options: HeadOptions, seed: int) -> Head:
    """Return a head that is not fitted yet.

    Args:
        options: Its section of params.yaml; `options.kind` says which head.
        seed: Of everything it draws.
    """
    return _class_of(options.kind)(options, seed)


def load(folder: Path) -> Head:
    """Load a fitted head; nothing in the folder is executed.

    Raises:
        InputError: the folder holds no head, one of another format or of an unknown kind, or
            weights that do not belong to it.
    """
    content = read_card(folder)
    if content["kind"] not in _CLASSES:
        raise InputError(
            f"{folder / CARD_FILE}: kind: expected one of {', '.join(_CLASSES)}, "
            f"received {content['kind']!r}"
        )
    return _class_of(content["kind"]).load(folder, content)
