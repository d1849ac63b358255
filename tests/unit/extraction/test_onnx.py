"""Networks of ONNX files as backbones: ONNX Runtime's features, and what cannot be one."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from headstart.common.errors import InputError
from headstart.extraction import engines
from headstart.extraction.bottleneck import Bottleneck, identify, recover
from headstart.extraction.network_size import network_size
from headstart.extraction.options import ExtractOptions
from headstart.extraction.store import FeatureStore
from headstart.features.identity import FeatureIdentity
from headstart.images.options import AugmentOptions
from tests import onnx_graphs as graphs
from tests.hardware import needs_precision

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
PIXELS = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)


def bottleneck(path: Path, **changes: object) -> Bottleneck:
    defaults = {
        "backbone": "onnx",
        "weights": str(path),
        "seed": 0,
        "image_size": "auto",
        "resize": "stretch",
        "layer": "auto",
        "pooling": "avg",
        "engine": "auto",
        "precision": "float32",
        "augment": AugmentOptions(views=0, seed=0),
    }
    options = ExtractOptions(**{**defaults, **changes})
    engine = engines.resolve(options.engine, options.precision, options.backbone)
    return identify(options, engine)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "store")


def features(wanted: Bottleneck, store: FeatureStore, pixels: np.ndarray = PIXELS) -> np.ndarray:
    (found,) = engines.load(wanted, store)(pixels)
    return found


def reference(path: Path, name: str, images: np.ndarray) -> np.ndarray:
    """Return what ONNX Runtime computes for a tensor."""
    model = onnx.load(path)
    if name not in [output.name for output in model.graph.output]:
        model.graph.output.append(onnx.ValueInfoProto(name=name))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (values,) = session.run([name], {model.graph.input[0].name: images})
    return values


def normalized(pixels: np.ndarray = PIXELS) -> np.ndarray:
    return ((pixels / 255 - MEAN) / STD).astype(np.float32)


def nchw(pixels: np.ndarray) -> np.ndarray:
    return pixels.transpose(0, 3, 1, 2)


def assert_close(found: np.ndarray, expected: np.ndarray, bound: float = 1e-4) -> None:
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= bound * np.abs(expected).max()


POOLED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "avg": lambda maps: maps.mean((1, 2)),
    "max": lambda maps: maps.max((1, 2)),
    "none": lambda maps: maps,
}


@pytest.mark.parametrize("pooling", POOLED)
@pytest.mark.parametrize("layer", ["stem", "block", "pool"])
def test_maps_of_any_tensor(tmp_path: Path, store: FeatureStore, layer: str, pooling: str) -> None:
    path = graphs.conv_net(tmp_path / "net.onnx")
    maps = reference(path, layer, nchw(normalized())).transpose(0, 2, 3, 1)
    found = features(bottleneck(path, layer=layer, pooling=pooling), store)
    assert_close(found, POOLED[pooling](maps))


@pytest.mark.parametrize("layer", ["auto", "flat"])
def test_vectors_have_nothing_to_pool(tmp_path: Path, store: FeatureStore, layer: str) -> None:
    path = graphs.conv_net(tmp_path / "net.onnx")
    name = "logits" if layer == "auto" else layer
    wanted = bottleneck(path, layer=layer)
    assert wanted.taps[0].layer == name
    assert_close(features(wanted, store), reference(path, name, nchw(normalized())))


@pytest.mark.parametrize("pooling", POOLED)
@pytest.mark.parametrize("layer", ["map", "relu"])
def test_channels_are_found_in_either_order(
    tmp_path: Path, store: FeatureStore, layer: str, pooling: str
) -> None:
    path = graphs.nhwc_net(tmp_path / "net.onnx")
    maps = reference(path, layer, normalized())
    if layer == "relu":
        maps = maps.transpose(0, 2, 3, 1)
    wanted = bottleneck(path, layer=layer, pooling=pooling, onnx={"layout": "nhwc"})
    assert_close(features(wanted, store), POOLED[pooling](maps))


def test_maps_of_dense_layers_have_their_channels_last(tmp_path: Path, store: FeatureStore) -> None:
    path = graphs.channels_last_blocks(tmp_path / "net.onnx")
    for layer in ("rolled", "down", "block", "mlp", "back"):
        maps = reference(path, layer, nchw(normalized()))
        if layer in ("down", "back"):
            maps = maps.transpose(0, 2, 3, 1)
        found = features(bottleneck(path, layer=layer, pooling="none"), store)
        assert_close(found, maps)


@pytest.mark.parametrize(
    ("pooling", "pooled"),
    [
        ("cls", lambda tokens: tokens[:, 0]),
        ("avg", lambda tokens: tokens[:, 2:].mean(1)),
        ("max", lambda tokens: tokens[:, 2:].max(1)),
        ("cls+avg", lambda tokens: np.concatenate([tokens[:, 0], tokens[:, 2:].mean(1)], axis=1)),
        ("none", lambda tokens: tokens[:, 2:].reshape(1, 4, 4, 12)),
    ],
)
def test_tokens(
    tmp_path: Path,
    store: FeatureStore,
    pooling: str,
    pooled: Callable[[np.ndarray], np.ndarray],
) -> None:
    path = graphs.vit(tmp_path / "vit.onnx", prefix=2)
    wanted = bottleneck(path, pooling=pooling, onnx={"prefix_tokens": 2})
    tokens = reference(path, "tokens", nchw(normalized()))
    assert_close(features(wanted, store), pooled(tokens))


def test_shapes_that_follow_the_batch(tmp_path: Path, store: FeatureStore) -> None:
    path = graphs.vit(tmp_path / "vit.onnx", open_batch=True)
    tokens = reference(path, "tokens", nchw(normalized()))
    found = features(bottleneck(path, pooling="cls", onnx={"prefix_tokens": 1}), store)
    assert_close(found, tokens[:, 0])


def test_float16(tmp_path: Path, store: FeatureStore) -> None:
    half, full = graphs.half_net(tmp_path / "half.onnx"), graphs.conv_net(tmp_path / "full.onnx")
    assert_close(features(bottleneck(half), store), features(bottleneck(full), store), 5e-3)


def test_a_forgotten_class_token_is_told(
    tmp_path: Path, store: FeatureStore, capsys: pytest.CaptureFixture[str]
) -> None:
    path = graphs.vit(tmp_path / "vit.onnx")
    features(bottleneck(path), store)
    assert "17 tokens, which are no grid of patches" in capsys.readouterr().err


def test_preprocessing_is_as_told(tmp_path: Path, store: FeatureStore) -> None:
    path = graphs.conv_net(tmp_path / "net.onnx")
    fed = {"channels": "bgr", "scale": 2.0, "mean": [1, 2, 3], "std": [4, 5, 6]}
    found = features(bottleneck(path, onnx=fed), store)
    images = ((PIXELS[..., ::-1] / 2 - [1, 2, 3]) / [4, 5, 6]).astype(np.float32)
    assert_close(found, reference(path, "logits", nchw(images)))


def test_a_network_that_scales_whole_numbers_itself(tmp_path: Path, store: FeatureStore) -> None:
    path = graphs.uint8_net(tmp_path / "net.onnx")
    plain = {"scale": 1, "mean": [0, 0, 0], "std": [1, 1, 1]}
    found = features(bottleneck(path, onnx=plain), store)
    assert_close(found, reference(path, "pool", nchw(PIXELS)).reshape(1, -1))
    with pytest.raises(InputError, match=r"takes whole numbers \(u8\).*scale: 1, mean"):
        features(bottleneck(path), store)


def test_weights_beside_the_file(tmp_path: Path, store: FeatureStore) -> None:
    path = graphs.conv_net(
        tmp_path / "net.onnx",
        save_as_external_data=True,
        location="net.data",
        size_threshold=0,
    )
    wanted = bottleneck(path)
    whole = graphs.conv_net(tmp_path / "whole.onnx")
    assert_close(features(wanted, store), features(bottleneck(whole), store), 1e-6)
    data = bytearray((tmp_path / "net.data").read_bytes())
    data[5] ^= 1
    (tmp_path / "net.data").write_bytes(data)
    assert bottleneck(path).weights.sha256 != wanted.weights.sha256
    with pytest.raises(InputError, match="expected those that the model was trained with"):
        recover(wanted.taps[0])
    (tmp_path / "net.data").unlink()
    with pytest.raises(InputError, match=r"lie in another file, .*net\.data, which is missing"):
        bottleneck(path)


def test_any_size_where_the_network_takes_any(tmp_path: Path, store: FeatureStore) -> None:
    path = graphs.conv_net(tmp_path / "net.onnx", ("n", 3, "h", "w"))
    wanted = bottleneck(path, image_size=[40, 48], layer="block", pooling="none")
    assert engines.load(wanted, store).feature_shapes == ((20, 24, 8),)
    with pytest.raises(InputError, match=r"several sizes \(any x 3 x any x any\).*such as 224"):
        bottleneck(path)


def test_a_fixed_batch_becomes_one_image(tmp_path: Path, store: FeatureStore) -> None:
    path = graphs.fixed_batch_net(tmp_path / "net.onnx")
    batch = np.concatenate([nchw(normalized())] * 4)
    assert_close(features(bottleneck(path), store), reference(path, "output", batch)[:1])


def test_several_taps_of_one_pass(tmp_path: Path, store: FeatureStore) -> None:
    path = graphs.conv_net(tmp_path / "net.onnx")
    both = bottleneck(path).tapped([("auto", "avg"), ("block", "none")])
    logits, maps = engines.load(both, store)(PIXELS)
    assert_close(logits, reference(path, "logits", nchw(normalized())))
    assert maps.shape == (1, 16, 16, 8)


def test_bfloat16(tmp_path: Path, store: FeatureStore) -> None:
    needs_precision("bfloat16", "openvino")
    path = graphs.vit(tmp_path / "vit.onnx")
    full, half = (
        features(bottleneck(path, precision=precision, onnx={"prefix_tokens": 1}), store)
        for precision in ("float32", "bfloat16")
    )
    assert not np.array_equal(full, half)
    assert_close(half, full, 0.05)


def test_the_identity_alone_leads_back(tmp_path: Path) -> None:
    path = graphs.vit(tmp_path / "vit.onnx")
    wanted = bottleneck(path, pooling="cls", onnx={"prefix_tokens": 1, "interpolation": "bicubic"})
    identity = wanted.taps[0]
    assert identity.interpolation == "bicubic"
    assert FeatureIdentity.from_dict(identity.as_dict()) == identity
    assert recover(identity) == wanted


def test_what_changes_numbers_changes_the_fingerprint(tmp_path: Path) -> None:
    path = graphs.vit(tmp_path / "vit.onnx")
    options = [
        None,
        {"scale": 127.5},
        {"channels": "bgr"},
        {"mean": [0.5, 0.5, 0.5]},
        {"std": [0.5, 0.5, 0.5]},
        {"interpolation": "bicubic"},
        {"prefix_tokens": 1},
    ]
    found = [bottleneck(path, onnx=one).taps[0] for one in options]
    for name in ("fingerprint", "feature_digest"):
        assert len({getattr(identity, name) for identity in found}) == len(options)
    # What is told and what is meant without are the same.
    same = bottleneck(path, onnx={"input": "images", "layout": "nchw"}).taps[0]
    assert same.fingerprint == found[0].fingerprint


def test_the_size_is_counted_up_to_the_layer(tmp_path: Path, store: FeatureStore) -> None:
    path = graphs.conv_net(tmp_path / "net.onnx")
    stem = bottleneck(path, layer="stem").taps[0]
    multiply_adds = 16 * 16 * 8 * 27
    for _ in range(2):
        size = network_size(stem, store)
        assert (size.multiply_adds, size.parameters) == (multiply_adds, 8 * 27 + 8)
    whole = network_size(bottleneck(path).taps[0], store)
    assert whole.multiply_adds == multiply_adds + 16 * 16 * 8 * 72 + 40
    assert whole.parameters == 8 * 27 + 8 + 8 * 72 + 40


def test_nothing_imports_tensorflow(tmp_path: Path) -> None:
    path = graphs.conv_net(tmp_path / "net.onnx")
    code = (
        "import sys, numpy as np; from headstart import BottleneckFeatures; "
        f"BottleneckFeatures('onnx', weights={str(path)!r}, layer='block', onnx={{'scale': 1}})"
        ".fit_transform(np.zeros((1, 32, 32, 3), np.uint8)); "
        "sys.exit('tensorflow' in sys.modules or 'onnx' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (
            graphs.conv_net,
            {"pooling": "cls"},
            r"logits is a vector \(1 x 5\); expected avg",
        ),
        (
            graphs.conv_net,
            {"layer": "stem", "pooling": "cls"},
            r"stem is a map \(1 x 8 x 16 x 16\)",
        ),
        (graphs.vit, {"pooling": "cls"}, r"tokens \(1 x 17 x 12\).*says that there is none"),
        (
            graphs.vit,
            {"pooling": "none"},
            "17 tokens of tokens are no grid over an image of 32",
        ),
        (
            graphs.vit,
            {"pooling": "last4", "onnx": {"prefix_tokens": 1}},
            "tokens is tokens of one layer .* received last4",
        ),
        (
            graphs.vit,
            {"onnx": {"prefix_tokens": 17}},
            "onnx.prefix_tokens: .*tokens has 17 tokens, received 17 before the patches",
        ),
        (graphs.classes_net, {}, r"class has the shape 1, i64; expected floating-point numbers"),
        (graphs.rank_five_net, {}, r"1 x 2 x 4 x 16 x 16, f32; expected a vector, tokens or a map"),
        (graphs.custom_net, {}, "No conversion rule found for operations: my.ops.Mystery"),
        (graphs.tied_batch_net, {}, "4 x 8 x 1 x 1, f32; expected 1, the batch, first; export"),
        (graphs.dynamic_output_net, {}, "f32; expected one shape; export the network for a fixed"),
    ],
)
def test_what_cannot_be_features_is_told_before_the_pass(
    tmp_path: Path,
    store: FeatureStore,
    make: Callable[[Path], Path],
    changes: dict[str, object],
    message: str,
) -> None:
    path = make(tmp_path / "net.onnx")
    with pytest.raises(InputError, match=message):
        engines.load(bottleneck(path, **changes), store)


def test_another_engine_cannot_run_it(tmp_path: Path) -> None:
    path = graphs.conv_net(tmp_path / "net.onnx")
    with pytest.raises(InputError, match="extract.engine: expected auto or openvino"):
        bottleneck(path, engine="tensorflow")


def test_it_runs_on_openvino_beside_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "has_gpu", lambda: True)
    path = graphs.conv_net(tmp_path / "net.onnx")
    assert bottleneck(path).taps[0].engine == "openvino"


@pytest.mark.slow
def test_real_weights_give_the_features_of_the_catalogs_own(
    tmp_path: Path, store: FeatureStore, photo: Callable[[int, int, int], np.ndarray]
) -> None:
    from headstart.common.tensorflow_runtime import tf
    from headstart.extraction.model import backbone_of

    own = bottleneck(tmp_path, backbone="EfficientNetLite0", weights="pretrained", image_size=96)
    network = backbone_of(own)
    path = tmp_path / "lite0.onnx"
    images = tf.TensorSpec((None, 96, 96, 3), tf.float32, name="images")
    with warnings.catch_warnings():
        # Once in a process, of NumPy's old names in tf2onnx.
        warnings.simplefilter("ignore", FutureWarning)
        network.export(path, format="onnx", verbose=False, input_signature=[images])
    fed = {"layout": "nhwc", "scale": 1.0, "mean": [127.0] * 3, "std": [128.0] * 3}
    wanted = bottleneck(path, onnx=fed)
    engine = engines.load(wanted, store)
    for seed in range(3):
        pixels = photo(seed, 96, 96)[None]
        maps = network((pixels.astype(np.float32) - 127) / 128, training=False).numpy()
        (found,) = engine(pixels)
        assert_close(found, maps.mean((1, 2)))
    assert network_size(wanted.taps[0], store).multiply_adds == (
        network_size(own.taps[0], store).multiply_adds
    )
