import json
import subprocess
import sys
from zipfile import ZipFile

import numpy as np
import onnx
import pytest
from PIL import Image

from headstart.commands.export.assembling import INPUT, OUTPUT, RESIZING, Parts
from headstart.commands.export.formats import FORMATS
from headstart.commands.export.resizing import resized
from headstart.common.errors import InputError
from headstart.common.openvino_runtime import openvino
from headstart.common.tensorflow_runtime import keras

CLASSES = ["강아지", "cat | dog", "none"]
SIDE = 32


@pytest.fixture(scope="module")
def parts():
    """A small convolutional classifier behind the real resizing."""
    layers = keras.layers
    keras.utils.set_random_seed(0)
    small = keras.Input((SIDE, SIDE, 3), dtype="uint8", name=INPUT)
    x = keras.ops.cast(small, "float32") / 255.0
    for filters in (8, 16):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu6")(x)
        x = layers.DepthwiseConv2D(3, padding="same", bias_initializer="random_normal")(x)
    x = layers.Dense(len(CLASSES), kernel_initializer=keras.initializers.RandomNormal(0, 20))(
        layers.GlobalAveragePooling2D()(x)
    )
    classifier = keras.Model(small, layers.Softmax()(x), name="classifier")
    images = keras.Input((None, None, 3), dtype="uint8", name=INPUT)
    pixels = keras.ops.cast(resized(images, (SIDE, SIDE), "stretch", "bicubic"), "uint8")
    resizing = keras.Model(images, pixels, name=RESIZING)
    whole = layers.Identity(name=OUTPUT)(classifier(resizing(images)))
    return Parts(resizing, classifier, keras.Model(images, whole, name="model"))


@pytest.fixture(scope="module")
def pictures(photo):
    return [photo(seed, 40 + 13 * seed, 90 - 7 * seed)[np.newaxis] for seed in range(6)]


@pytest.fixture(scope="module")
def expected(parts, pictures):
    probabilities = np.concatenate([np.asarray(parts.whole(picture)) for picture in pictures])
    assert np.ptp(probabilities[:, 0]) > 0.05  # else the comparison would show nothing
    return probabilities


@pytest.fixture(scope="module")
def written(parts, tmp_path_factory):
    """Write each format once."""
    folders = {}

    def get(name):
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            FORMATS[name].writer().write(parts, folders[name], CLASSES, None)
        return folders[name]

    return get


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_says_the_same_of_any_size(written, name, pictures, expected):
    predict = FORMATS[name].writer().load(written(name))
    said = np.concatenate([predict(picture) for picture in pictures])
    assert said.dtype == np.float32
    np.testing.assert_allclose(said, expected, atol=2e-6)


@pytest.mark.parametrize("name", FORMATS)
def test_only_what_is_named_is_left(written, name):
    kept = {path.name for path in written(name).iterdir()}
    assert kept == {FORMATS[name].file} | ({"model.bin"} if name == "openvino" else set())


def test_keras_file_loads_without_this_project(written, pictures, expected, tmp_path):
    np.save(tmp_path / "picture.npy", pictures[0])
    program = (
        "import sys, keras, numpy as np\n"
        "model = keras.saving.load_model(sys.argv[1])\n"
        "print(model.predict(np.load(sys.argv[2]), verbose=0).tolist())\n"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'pipeline']"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program, written("keras") / "model.keras", "picture.npy"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(finished.stdout.splitlines()[-1])
    np.testing.assert_allclose(said, expected[:1], atol=2e-6)


@pytest.mark.parametrize(("name", "file"), [("keras", "model.keras"), ("litert", "model.tflite")])
def test_labels_lie_in_the_archive(written, name, file):
    with ZipFile(written(name) / file) as archive:
        assert archive.read("labels.txt").decode().splitlines() == CLASSES


def test_onnx_names_its_interface_and_its_classes(written):
    model = onnx.load(written("onnx") / "model.onnx")
    (images,), (output,) = model.graph.input, model.graph.output
    assert (images.name, output.name) == (INPUT, OUTPUT)
    dimensions = [d.dim_param or d.dim_value for d in images.type.tensor_type.shape.dim]
    assert dimensions == ["batch", "height", "width", 3]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["class_names"]) == CLASSES


def test_openvino_names_its_classes(written):
    model = openvino.Core().read_model(written("openvino") / "model.xml")
    assert json.loads(model.get_rt_info(["class_names"]).astype(str)) == CLASSES


def test_saved_model_takes_jpeg_files_of_different_sizes(written, parts, photo, tmp_path):
    from headstart.common.tensorflow_runtime import tf
    from headstart.images.decoding import decode

    files = []
    for seed, size in ((1, (50, 70)), (2, (90, 40))):
        Image.fromarray(photo(seed, *size)).save(tmp_path / "photo.jpg")
        files.append((tmp_path / "photo.jpg").read_bytes())
    loaded = tf.saved_model.load(str(written("savedmodel") / "saved_model"))
    answer = loaded.signatures["serve_jpeg"](jpeg=tf.constant(files))
    pixels = [np.asarray(parts.whole(decode(data)[np.newaxis]))[0] for data in files]
    np.testing.assert_allclose(answer[OUTPUT], pixels, atol=2e-6)
    names = [name.decode() for name in answer["class_name"].numpy()]
    assert names == [CLASSES[index] for index in np.argmax(pixels, axis=1)]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, entry in FORMATS.items() if entry.int8])
def test_eight_bits_shrink_the_network_and_spare_the_resizing(
    parts, name, photo, pictures, expected, tmp_path
):
    def calibration():
        for seed in range(8):
            yield photo(seed, SIDE, SIDE)[np.newaxis]

    writer = FORMATS[name].writer()
    writer.write(parts, tmp_path, CLASSES, calibration)
    said = np.concatenate([writer.load(tmp_path)(picture) for picture in pictures])
    difference = np.abs(said - expected)
    # Eight bits show; but had they touched the positions of pixels, nothing would be left.
    assert 1e-6 < difference.max() < 0.15


@pytest.mark.parametrize("name", [name for name, entry in FORMATS.items() if not entry.int8])
def test_formats_without_eight_bits_refuse_them(parts, name, tmp_path):
    with pytest.raises(ValueError, match="no 8-bit convolutions"):
        FORMATS[name].writer().write(parts, tmp_path, CLASSES, lambda: iter(()))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"--format onnx: needs the Python package onnx, which"):
        FORMATS["onnx"].writer()
