"""Networks that others exported to ONNX, as backbones: `backbone: onnx`. Needs no TensorFlow.

What such a network is stands in its file, and how its input is made in section `extract.onnx`.
"""

NAME = "onnx"
"""What `extract.backbone` calls them all."""

SUFFIX = ".onnx"
