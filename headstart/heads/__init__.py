"""Classifiers on cached bottleneck features, one module per kind.

A kind's module is imported only when that kind is asked for.
"""

from collections.abc import Collection
from pathlib import Path

from headstart.common.errors import InputError
from headstart.heads.base import CARD_FILE, Head, read_card
from headstart.heads.options import HEAD_KINDS, HeadKind, HeadOptions


def _class_of(kind: HeadKind) -> type[Head]:
    match kind:
        case "dense":
            from headstart.heads.dense import DenseHead

            return DenseHead
        case "gap":
            from headstart.heads.gap import GapHead

            return GapHead
        case "linear_svc":
            from headstart.heads.linear_svc import LinearSVCHead

            return LinearSVCHead
        case "logistic":
            from headstart.heads.logistic import LogisticHead

            return LogisticHead
        case "ridge":
            from headstart.heads.ridge import RidgeHead

            return RidgeHead
        case "prototype":
            from headstart.heads.prototype import PrototypeHead

            return PrototypeHead
        case "zero_shot":
            from headstart.heads.zero_shot import ZeroShotHead

            return ZeroShotHead
        case "knn":
            from headstart.heads.knn import KnnHead

            return KnnHead


def is_cheap(options: HeadOptions) -> bool:
    """Return whether the head takes a moment to fit: whether it is not trained in epochs."""
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
    kind: HeadKind | None = next((kind for kind in HEAD_KINDS if kind == content["kind"]), None)
    if kind is None:
        raise InputError(
            f"{folder / CARD_FILE}: kind: expected one of {', '.join(HEAD_KINDS)}, "
            f"received {content['kind']!r}"
        )
    return _class_of(kind).load(folder, content)


def trained_heads(folder: Path) -> list[str]:
    """Return the names of the heads that lie in a folder, sorted.

    Args:
        folder: Such as models/heads, with a folder per head.
    """
    return sorted(path.parent.name for path in folder.glob(f"*/{CARD_FILE}"))


def require_start(name: str | None, heads: Collection[str]) -> None:
    """Refuse a `finetune.head` that is none of the heads; None where nothing starts from one."""
    if name is not None and name not in heads:
        raise InputError(
            f"params.yaml: finetune.head: expected one of train.heads "
            f"({', '.join(sorted(heads)) or 'none is trained'}), received {name}"
        )
