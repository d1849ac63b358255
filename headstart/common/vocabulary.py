"""The words that params.yaml, the features and the models share, as types."""

from typing import Literal, get_args

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

Pooling = Literal["avg", "max", "none"]
Resize = Literal["stretch", "crop", "pad"]
Interpolation = Literal["bilinear", "bicubic"]
Precision = Literal["float32", "bfloat16", "float16"]
EngineName = Literal["tensorflow", "openvino"]

NUMERICS = 1
"""Raised whenever this code changes a feature beyond the stated tolerance (1e-5 relative)."""
