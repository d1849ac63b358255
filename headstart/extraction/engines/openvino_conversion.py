"""Converting a bottleneck's Keras model into OpenVINO's format."""

from collections.abc import Sequence
from pathlib import Path

from headstart.catalog import cuts
from headstart.catalog.readout import Readout
from headstart.common.files import expect_room
from headstart.common.openvino_runtime import openvino
from headstart.common.tensorflow_runtime import tf
from headstart.extraction.bottleneck import Bottleneck
from headstart.extraction.engines.openvino_unpooling import mark_pooled
from headstart.extraction.model import assemble, backbone_of, outputs_of
from headstart.extraction.network_size import NetworkSize, size_up_to


def convert(
    bottleneck: Bottleneck, output_names: Sequence[str], batch_size: int, path: Path
) -> tuple[NetworkSize, ...]:
    """Build the model with preprocessing and pooling, and write it with float32 weights.

    Args:
        bottleneck: What to compute.
        output_names: One per tap.
        batch_size: Fixed number of images per call.
        path: The .xml file; the weights go to a .bin file beside it.

    Returns:
        The size of the network up to each tap, which takes a second to count anew.

    Raises:
        InputError: the weights do not fit, or a tap's layer is not a cut of the backbone.
    """
    backbone = backbone_of(bottleneck)
    model = assemble(bottleneck, backbone=backbone)
    signature = tf.TensorSpec((batch_size, *bottleneck.image_size, 3), tf.uint8)
    function = tf.function(
        lambda images: dict(zip(output_names, outputs_of(model, images), strict=True)),
        input_signature=[signature],
    )
    converted = openvino.convert_model(function.get_concrete_function())
    unpooled = Readout.of(bottleneck.spec, "none", bottleneck.image_size)
    for name, tap in zip(output_names, bottleneck.taps, strict=True):
        shape = unpooled.pool(cuts.tensor_at(backbone, tap.layer)).shape
        if tap.pooling not in ("none", "raw", "cls") and len(shape) == 4:
            mark_pooled(converted, name, shape[1:3])
    expect_room(path.parent, 4 * model.count_params())
    openvino.save_model(converted, path, compress_to_fp16=False)
    return tuple(size_up_to(backbone, tap.layer) for tap in bottleneck.taps)
