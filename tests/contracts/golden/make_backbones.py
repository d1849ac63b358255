"""Compute backbones.json from Keras alone: `python tests/contracts/golden/make_backbones.py`.

Nothing of this project is imported, so that the numbers are Keras' own: its models with seeded
random weights, its `preprocess_input`, its pooling, and what it would download.
"""

import contextlib
import importlib
import json
import os
import random
import sys
from pathlib import Path
from unittest import mock

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import numpy as np
from keras.src.utils import file_utils

SEED = 3
MODULES = {
    "VGG16": ("vgg16", 32),
    "VGG19": ("vgg19", 32),
    "ResNet50": ("resnet", 32),
    "ResNet101": ("resnet", 32),
    "ResNet152": ("resnet", 32),
    "ResNet50V2": ("resnet_v2", 32),
    "ResNet101V2": ("resnet_v2", 32),
    "ResNet152V2": ("resnet_v2", 32),
    "InceptionV3": ("inception_v3", 75),
    "InceptionResNetV2": ("inception_resnet_v2", 75),
    "Xception": ("xception", 71),
    "MobileNet": ("mobilenet", 32),
    "MobileNetV2": ("mobilenet_v2", 32),
    "MobileNetV3Small": ("mobilenet_v3", 32),
    "MobileNetV3Large": ("mobilenet_v3", 32),
    "DenseNet121": ("densenet", 32),
    "DenseNet169": ("densenet", 32),
    "DenseNet201": ("densenet", 32),
    "NASNetMobile": ("nasnet", 32),
    "NASNetLarge": ("nasnet", 32),
    **{f"EfficientNetB{number}": ("efficientnet", 32) for number in range(8)},
    **{
        f"EfficientNetV2{size}": ("efficientnet_v2", 32)
        for size in ("B0", "B1", "B2", "B3", "S", "M", "L")
    },
    **{
        f"ConvNeXt{size}": ("convnext", 32) for size in ("Tiny", "Small", "Base", "Large", "XLarge")
    },
}
# With random weights this one magnifies a rounding in float32 a million times, so that CPUs differ.
FLOAT64 = ["EfficientNetV2L"]


def main() -> None:
    golden = {name: entry(name, *facts) for name, facts in MODULES.items()}
    text = json.dumps({"keras": keras.__version__, "seed": SEED, "backbones": golden}, indent=1)
    Path(__file__).with_name("backbones.json").write_text(text + "\n")


def entry(name: str, module: str, minimum: int) -> dict:
    print(name, file=sys.stderr, flush=True)
    keras.backend.clear_session()
    dtype = "float64" if name in FLOAT64 else "float32"
    keras.config.set_dtype_policy(dtype)
    builder = getattr(keras.applications, name)
    size = (minimum + 8, minimum + 40)
    random.seed(SEED)
    model = builder(weights=None, include_top=False, input_shape=(*size, 3))
    image = np.random.default_rng(SEED).integers(0, 256, (*size, 3), dtype=np.uint8)
    preprocess = importlib.import_module(f"keras.applications.{module}").preprocess_input
    maps = np.asarray(model(preprocess(image[None].astype(dtype)), training=False))
    features = {"avg": maps.mean((1, 2))[0], "max": maps.max((1, 2))[0]}
    return {
        "image_size": size,
        "dtype": dtype,
        "minimum": minimum if refuses(builder, minimum - 1) else None,
        "layer": model.layers[-1].name,
        "shape": maps.shape[1:],
        **with_top(builder),
        "weights": download(builder),
        **{
            pooling: {
                "first": [float(value) for value in values[:4]],
                "norm": float(np.linalg.norm(values.astype(np.float64))),
                # Unlike the norm, this changes when channels are exchanged.
                "projection": float(values @ np.cos(np.arange(len(values)))),
            }
            for pooling, values in features.items()
        },
    }


def refuses(builder, side: int) -> bool:
    try:
        builder(weights=None, include_top=False, input_shape=(side, side, 3))
    except ValueError as error:
        return "at least" in str(error)
    return False


def with_top(builder) -> dict:
    keras.backend.clear_session()
    # MobileNetV3 leaves its size open; its weights' names say 224.
    model = builder(weights=None)
    default_size = [side or 224 for side in model.input_shape[1:3]]
    return {"parameters": model.count_params(), "default_size": default_size}


class RequestedError(Exception):
    """Stops a builder where it would download."""


def download(builder) -> dict:
    """Return what the builder would download without top."""
    keras.backend.clear_session()
    request = mock.Mock(side_effect=RequestedError)
    side = 331 if builder is keras.applications.NASNetLarge else 224
    with mock.patch.object(file_utils, "get_file", request), contextlib.suppress(RequestedError):
        builder(weights="imagenet", include_top=False, input_shape=(side, side, 3))
    (file, url), options = request.call_args
    return {"file": file, "url": url, "digest": options.get("file_hash")}


if __name__ == "__main__":
    main()
