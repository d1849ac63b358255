"""Export of a head on the network of an ONNX file: as one graph of OpenVINO.

Keras cannot hold such a network, and so none of the formats that are written by way of it.
"""

from pathlib import Path
from typing import Any

from headstart.commands.export.assembling import INPUT, OUTPUT, classifier_of, resizing_of
from headstart.commands.export.formats import Format
from headstart.common.errors import InputError
from headstart.common.openvino_runtime import openvino
from headstart.common.tensorflow_runtime import keras, tf
from headstart.extraction.bottleneck import recover
from headstart.extraction.engines.onnx_conversion import assemble
from headstart.features.identity import FeatureIdentity
from headstart.heads import load


def check_format(identity: FeatureIdentity, form: Format, quantize: str | None) -> None:
    """Check that a format can hold the network.

    Raises:
        InputError: it cannot.
    """
    if form.name != "openvino" or quantize:
        raise InputError(
            f"--format {form.name}{f' --quantize {quantize}' if quantize else ''}: the features "
            f"are of an ONNX file ({identity.weights}), which this cannot hold; expected --format "
            "openvino, in floating point"
        )


def whole_graph(folder: Path) -> openvino.Model:
    """Join resizing, network and head.

    Args:
        folder: Of a trained head, such as models/heads/logistic.

    Returns:
        From one image of any size, (1, any, any, 3) uint8, RGB in [0, 255], to calibrated
        probabilities (1, n_classes) float32.

    Raises:
        InputError: the folder holds no head or one that cannot be a graph, or the network that it
            needs cannot be had.
    """
    # Keras numbers layers over a process' life; names in an export shall not depend on what ran.
    keras.utils.clear_session()
    head = load(folder)
    identity, shape = head.card.identity, head.card.feature_shape
    images = tf.TensorSpec((1, None, None, 3), tf.uint8, name=INPUT)
    resizing = _converted(resizing_of(identity), images, "pixels")
    network, _ = assemble(recover(identity), ["features"])
    features = tf.TensorSpec((1, *shape), tf.float32, name="features")
    classifier = _converted(classifier_of(head), features, OUTPUT)
    _join(resizing, network)
    _join(network, classifier)
    probabilities = classifier.get_results()[0].input_value(0)
    probabilities.set_names({OUTPUT})
    return openvino.Model([probabilities], resizing.get_parameters())


def _converted(model: keras.Model, signature: Any, name: str) -> openvino.Model:
    function = tf.function(
        lambda values: {name: model(values, training=False)}, input_signature=[signature]
    )
    # Its own copy of the weights, since the Keras model that holds them is gone by the time of use.
    return openvino.convert_model(function.get_concrete_function(), share_weights=False)


def _join(first: openvino.Model, second: openvino.Model) -> None:
    """Feed the only output of one graph into the only input of another."""
    given = first.get_results()[0].input_value(0)
    (parameter,) = second.get_parameters()
    for reader in parameter.output(0).get_target_inputs():
        reader.replace_source_output(given)
