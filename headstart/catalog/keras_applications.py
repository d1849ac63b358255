"""Catalog entries of all of keras.applications, made without importing Keras."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from headstart.catalog.spec import (
    CAFFE,
    NONE,
    TF,
    TORCH,
    BackboneSpec,
    DownloadWeights,
    Preprocessing,
)
from headstart.catalog.tables import rows, share
from headstart.common.vocabulary import Interpolation

_TABLE = Path(__file__).with_suffix(".csv")
"""One row per size. Accuracies in percent on ImageNet, size in MB, depth: as documented.

Source: https://keras.io/api/applications/ (accuracies, depth, size; MobileNetV3's from the table in
keras/src/applications/mobilenet_v3.py, its size from its parameters); Keras 3.15's modules (image
side, layers, url, file, digest). The counts of parameters are those of the models with top.
"""


class _Family(NamedTuple):
    """What all sizes of an architecture share."""

    preprocessing: Preprocessing
    license: str
    source: str
    min_size: int = 32
    interpolation: Interpolation = "bilinear"


# Preprocessing: `preprocess_input` of each Keras module; EfficientNet, EfficientNetV2, MobileNetV3
# and ConvNeXt rescale inside the model. min_size: `obtain_input_shape` there. Interpolation: the
# papers' own evaluation code. License: of the weights; Keras 2.3, docs/templates/applications.md;
# for families that came later that of the repository whose weights Keras converted
# (facebookresearch/ConvNeXt, tensorflow/tpu, google/automl, tensorflow/models).
_FAMILIES = {
    "ConvNeXt": _Family(NONE, "MIT", "Liu et al. 2022, arXiv:2201.03545", interpolation="bicubic"),
    "DenseNet": _Family(TORCH, "BSD-3-Clause", "Huang et al. 2017, arXiv:1608.06993"),
    "EfficientNet": _Family(
        NONE, "Apache-2.0", "Tan and Le 2019, arXiv:1905.11946", interpolation="bicubic"
    ),
    "EfficientNetV2": _Family(NONE, "Apache-2.0", "Tan and Le 2021, arXiv:2104.00298"),
    "InceptionResNetV2": _Family(TF, "Apache-2.0", "Szegedy et al. 2017, arXiv:1602.07261", 75),
    "InceptionV3": _Family(TF, "Apache-2.0", "Szegedy et al. 2016, arXiv:1512.00567", 75),
    "MobileNet": _Family(TF, "Apache-2.0", "Howard et al. 2017, arXiv:1704.04861"),
    "MobileNetV2": _Family(TF, "Apache-2.0", "Sandler et al. 2018, arXiv:1801.04381"),
    "MobileNetV3": _Family(NONE, "Apache-2.0", "Howard et al. 2019, arXiv:1905.02244"),
    "NASNet": _Family(TF, "Apache-2.0", "Zoph et al. 2018, arXiv:1707.07012"),
    "ResNet": _Family(CAFFE, "MIT", "He et al. 2016, arXiv:1512.03385"),
    "ResNetV2": _Family(TF, "BSD-3-Clause", "He et al. 2016, arXiv:1603.05027"),
    "VGG16": _Family(CAFFE, "CC-BY-4.0", "Simonyan and Zisserman 2015, arXiv:1409.1556"),
    "VGG19": _Family(CAFFE, "CC-BY-4.0", "Simonyan and Zisserman 2015, arXiv:1409.1556"),
    "Xception": _Family(TF, "MIT", "Chollet 2017, arXiv:1610.02357", 71),
}


def specs() -> Iterator[BackboneSpec]:
    """Yield the entries in the table's order."""
    yield from map(_spec, rows(_TABLE))


def _spec(row: dict[str, str]) -> BackboneSpec:
    family = _FAMILIES[row["family"]]
    side = int(row["side"])
    return BackboneSpec(
        name=row["name"],
        family=row["family"],
        default_size=(side, side),
        min_size=family.min_size,
        feature_layer=row["feature_layer"],
        feature_dim=int(row["feature_dim"]),
        preprocessing=family.preprocessing,
        interpolation=family.interpolation,
        # MobileNet and MobileNetV2 have other files for smaller images; this is the one for 224.
        pretrained=DownloadWeights(row["url"], row["file"], row["digest"] or None),
        license=family.license,
        parameters=int(row["parameters"]),
        depth=int(row["depth"]) if row["depth"] else None,
        top1=share(row["top1"]),
        top5=share(row["top5"]),
        size_mb=float(row["size_mb"]),
        source=family.source,
    )
