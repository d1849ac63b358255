"""What a text-paired backbone makes of the class names: a vector each, beside the image features.

A model such as CLIP or SigLIP puts pictures and sentences into one space. The vectors stand in the
feature file, since the heads that use them need the same classes and the same weights.
"""

import json
from dataclasses import dataclass

import h5py
import numpy as np
import numpy.typing as npt

from headstart.common.errors import InputError

_GROUP = "text"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassTexts:
    """Text vectors of the classes.

    Attributes:
        vectors: (n_classes, feature_dim) float32, of length 1.
        scale: What the model multiplies a cosine with to have a logit.
        bias: What it adds, the same for all classes.
        prompts: Of each class the sentences whose vectors were averaged.
    """

    vectors: npt.NDArray[np.float32]
    scale: float
    bias: float
    prompts: tuple[tuple[str, ...], ...]


Texts = ClassTexts | str | None
"""The vectors; why a text-paired backbone has none; None where a backbone knows no text."""


def write_texts(file: h5py.File, texts: Texts, n_classes: int, n_columns: int) -> None:
    """Write the group of the text vectors.

    Raises:
        ValueError: they do not fit the classes or the features.
    """
    if texts is None:
        return
    group = file.create_group(_GROUP, track_order=False)
    if isinstance(texts, str):
        group.attrs["lacking"] = texts
        return
    if texts.vectors.shape != (n_classes, n_columns) or len(texts.prompts) != n_classes:
        raise ValueError(
            f"text vectors: expected shape {(n_classes, n_columns)} and prompts of each class, "
            f"got {texts.vectors.shape} and prompts of {len(texts.prompts)}"
        )
    vectors = texts.vectors.astype("<f4")
    group.create_dataset("vectors", data=vectors, track_times=False)
    group.attrs["scale"] = texts.scale
    group.attrs["bias"] = texts.bias
    group.attrs["prompts"] = json.dumps(texts.prompts, ensure_ascii=False)


def read_texts(file: h5py.File) -> Texts:
    """Read what `write_texts` wrote."""
    if _GROUP not in file:
        return None
    group = file[_GROUP]
    if "lacking" in group.attrs:
        return str(group.attrs["lacking"])
    return ClassTexts(
        vectors=group["vectors"][:],
        scale=float(group.attrs["scale"]),
        bias=float(group.attrs["bias"]),
        prompts=tuple(tuple(own) for own in json.loads(group.attrs["prompts"])),
    )


def required(texts: Texts, what: str, backbone: str) -> ClassTexts:
    """Return the text vectors.

    Args:
        texts: As in the feature file.
        what: What needs them, such as "train.heads: kind zero_shot".
        backbone: Whose features they stand beside.

    Raises:
        InputError: there are none.
    """
    if isinstance(texts, ClassTexts):
        return texts
    why = texts or (
        f"{backbone} has none: set extract.backbone to a CLIP or SigLIP one (`headstart backbones` "
        "lists them) and extract.layer to auto, and run `dvc repro`"
    )
    raise InputError(f"params.yaml: {what} needs text vectors of the classes, but {why}")
