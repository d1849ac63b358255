"""Class names become vectors in the space of the images, by the tokenizer and tower of a preset."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart import catalog
from headstart.catalog.hub import text
from headstart.catalog.spec import BackboneSpec, HubNetwork
from headstart.catalog.weights import WeightsIdentity
from headstart.common.cache import Keep
from headstart.common.errors import InputError
from headstart.common.params import check
from headstart.extraction import texts
from headstart.extraction.bottleneck import Bottleneck
from headstart.extraction.options import TextOptions
from headstart.extraction.texts import class_prompts, class_texts
from headstart.features.text import ClassTexts
from tests.feature_files import make_identity
from tests.hub_arrays import NETWORKS

NAMES = ("cat", "dog")
ENTRIES = {"clip": "CLIPBase32", "siglip": "SigLIPBase16", "siglip2": "SigLIP2Base16"}


@pytest.fixture(scope="module")
def presets(
    hub_folder: Callable[[str, str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Tiny presets that are paired with text, each with its tokenizer."""
    from tests.text_presets import add_tokenizer

    root = tmp_path_factory.mktemp("paired")
    for kind in ENTRIES:
        shutil.copytree(hub_folder("keras_hub", kind.rstrip("2")), root / kind)
        add_tokenizer(kind, root / kind)
    return {kind: root / kind for kind in ENTRIES}


def _spec(kind: str) -> BackboneSpec:
    tiny = NETWORKS[kind.rstrip("2")]
    return replace(
        catalog.get(ENTRIES[kind]),
        network=HubNetwork(tiny.kind, tuple(tiny.arguments.items())),
        default_size=tiny.image_size,
        min_size=4,
        size_multiple=4,
    )


def _bottleneck(kind: str, path: Path | None, layer: str | None = None) -> Bottleneck:
    spec = _spec(kind)
    weights = WeightsIdentity(
        kind="folder" if path else "random", path=path, sha256="ab" * 32, seed=None, description=""
    )
    identity = make_identity(backbone=spec.name, layer=layer or spec.feature_layer)
    return Bottleneck(spec=spec, weights=weights, taps=(identity,))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ENTRIES)
def test_vectors_are_keras_hubs_own(presets: dict[str, Path], tmp_path: Path, kind: str) -> None:
    from tests.text_presets import text_vectors

    options = TextOptions(
        templates=["A photo of a {}.", "a  warm {}"], names={"dog": ["dog", "cold dog"]}
    )
    made = class_texts(_bottleneck(kind, presets[kind]), options, NAMES, Keep("texts", tmp_path))
    prompts = (
        ("A photo of a cat.", "a  warm cat"),
        ("A photo of a dog.", "A photo of a cold dog.", "a  warm dog", "a  warm cold dog"),
    )
    assert isinstance(made, ClassTexts)
    assert made.prompts == prompts
    expected = [_unit(text_vectors(kind, presets[kind], own)).mean(axis=0) for own in prompts]
    np.testing.assert_allclose(made.vectors, _unit(np.array(expected)), atol=1e-5)
    # As CLIPHead and SigLIPHead of keras-hub begin.
    assert made.scale == pytest.approx(1 / 0.07 if kind == "clip" else 1.0)
    assert made.bias == 0.0
    assert np.abs(made.vectors[0] - made.vectors[1]).max() > 1e-3


@pytest.mark.slow
def test_only_what_was_edited_is_computed(
    presets: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[list[str]]] = []
    compute = texts._compute

    def counting(bottleneck: Bottleneck, prompts: Any) -> Any:
        asked.append([list(own) for own in prompts])
        return compute(bottleneck, prompts)

    monkeypatch.setattr(texts, "_compute", counting)
    bottleneck, keep = _bottleneck("clip", presets["clip"]), Keep("texts", tmp_path)
    first = class_texts(bottleneck, TextOptions(), NAMES, keep)
    again = class_texts(bottleneck, TextOptions(), NAMES, keep)
    edited = class_texts(bottleneck, TextOptions(names={"dog": "cold dog"}), NAMES, keep)
    assert asked == [
        [["a photo of a cat."], ["a photo of a dog."]],
        [["a photo of a cold dog."]],
    ]
    assert isinstance(first, ClassTexts)
    assert isinstance(again, ClassTexts)
    assert isinstance(edited, ClassTexts)
    np.testing.assert_array_equal(first.vectors, again.vectors)
    np.testing.assert_array_equal(first.vectors[0], edited.vectors[0])
    assert not np.array_equal(first.vectors[1], edited.vectors[1])
    # Other weights or another tokenizer are other vectors.
    other = replace(bottleneck, weights=replace(bottleneck.weights, sha256="cd" * 32))
    class_texts(other, TextOptions(), NAMES, keep)
    assert len(asked) == 3


@pytest.mark.slow
def test_what_was_computed_before_a_kill_is_kept(
    presets: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headstart.catalog.hub.text_tower import TextTower

    names = [f"breed {number}" for number in range(12)]
    bottleneck, keep = _bottleneck("clip", presets["clip"]), Keep("texts", tmp_path / "one")
    whole = class_texts(bottleneck, TextOptions(), names, Keep("texts", tmp_path / "other"))
    embed, read = TextTower.embed, []

    def killed(self: TextTower, sentences: Any) -> Any:
        yield next(embed(self, sentences))
        raise KeyboardInterrupt

    def counting(self: TextTower, sentences: Any) -> Any:
        read.extend(sentences)
        return embed(self, sentences)

    monkeypatch.setattr(TextTower, "embed", killed)
    with pytest.raises(KeyboardInterrupt):
        class_texts(bottleneck, TextOptions(), names, keep)
    monkeypatch.setattr(TextTower, "embed", counting)
    resumed = class_texts(bottleneck, TextOptions(), names, keep)
    assert 0 < len(read) < len(names)
    assert isinstance(whole, ClassTexts)
    assert isinstance(resumed, ClassTexts)
    np.testing.assert_array_equal(resumed.vectors, whole.vectors)


def test_finding_out_needs_no_tensorflow() -> None:
    program = (
        "import sys\n"
        "import headstart.extraction.texts\n"
        "print([m for m in ('tensorflow', 'keras', 'keras_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_other_backbones_know_no_text() -> None:
    identity = make_identity()
    weights = WeightsIdentity(kind="random", path=None, sha256="", seed=0, description="")
    bottleneck = Bottleneck(spec=catalog.get("LeNet5"), weights=weights, taps=(identity,))
    assert class_texts(bottleneck, TextOptions(), NAMES) is None


def _reason(bottleneck: Bottleneck) -> str:
    found = class_texts(bottleneck, TextOptions(), NAMES)
    assert isinstance(found, str)
    return found


def test_why_there_are_none_is_told(presets: dict[str, Path], tmp_path: Path) -> None:
    reason = _reason(_bottleneck("clip", presets["clip"], "block_2"))
    assert reason.startswith("extract.layer is block_2, and text shares the space of projection")
    assert _reason(_bottleneck("clip", None)).startswith("extract.weights is random")
    lacking = {
        "clip": ["tokenizer.json", "assets/tokenizer/merges.txt"],
        "siglip": ["tokenizer.json", "assets/tokenizer/vocabulary.spm"],
    }
    for kind, files in lacking.items():
        for name in files:
            folder = tmp_path / kind / Path(name).name
            shutil.copytree(presets[kind], folder)
            (folder / name).unlink()
            assert f"the preset in {folder} lacks {name}: add" in _reason(_bottleneck(kind, folder))
    folder = tmp_path / "other"
    shutil.copytree(presets["clip"], folder)
    (folder / text.TOKENIZER).write_text('{"class_name": "BertTokenizer"}')
    assert "lacks a tokenizer.json of class CLIPTokenizer, SigLIP" in _reason(
        _bottleneck("clip", folder)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name", "content"),
    [
        ("clip", "assets/tokenizer/vocabulary.json", b'{"cat": 0}'),
        ("clip", "assets/tokenizer/merges.txt", b"\xff\xfe"),
        ("siglip", "assets/tokenizer/vocabulary.spm", b"no model"),
    ],
)
def test_damaged_tokenizers_are_told(
    presets: dict[str, Path], tmp_path: Path, kind: str, name: str, content: bytes
) -> None:
    folder = tmp_path / "preset"
    shutil.copytree(presets[kind], folder)
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=f"weights: .*{name}.*: expected the files of a "):
        class_texts(
            _bottleneck(kind, folder), TextOptions(), NAMES, Keep("texts", tmp_path / "keep")
        )


def test_numbers_and_words_alone_are_taken_from_json(tmp_path: Path) -> None:
    file = tmp_path / "preprocessor.json"
    assert text.arguments(file, sequence_length=77, to_lower=True) == {
        "sequence_length": 77,
        "to_lower": True,
    }
    file.write_text('{"config": {"sequence_length": {"module": "os"}, "to_lower": false, "x": 1}}')
    assert text.arguments(file, sequence_length=77, to_lower=True) == {
        "sequence_length": 77,
        "to_lower": False,
    }
    file.write_text("[")
    with pytest.raises(InputError, match=r"preprocessor\.json: expected JSON, received"):
        text.arguments(file, sequence_length=77)


def test_prompts_are_templates_of_names() -> None:
    labels = ("tabby_cat", "dog-house", "0")
    assert class_prompts(TextOptions(), labels) == [
        ["a photo of a tabby cat."],
        ["a photo of a dog house."],
        ["a photo of a 0."],
    ]
    options = check(
        {
            "templates": ["{}", "one {}, two {}"],
            "names": {0: "zero", "dog-house": ["kennel", "hut"]},
        },
        TextOptions,
        "params.yaml",
    )
    assert class_prompts(options, labels) == [
        ["tabby cat", "one tabby cat, two tabby cat"],
        ["kennel", "hut", "one kennel, two kennel", "one hut, two hut"],
        ["zero", "one zero, two zero"],
    ]
    options = TextOptions(templates={"0": ["the digit zero", "{}"]}, names={"0": ["nil", "zero"]})
    assert class_prompts(options, labels)[1:] == [
        ["a photo of a dog house."],
        ["the digit zero", "nil", "zero"],
    ]


@pytest.mark.parametrize("key", ["names", "templates"])
def test_a_class_that_does_not_exist_is_told(key: str) -> None:
    options = TextOptions(**{key: {"cta": ["{}"]}})
    with pytest.raises(InputError) as caught:
        class_prompts(options, NAMES)
    assert str(caught.value) == (
        f"params.yaml: extract.text.{key}: no class is called cta; the classes are cat, dog"
    )


def test_a_template_without_a_place_for_the_name_is_refused() -> None:
    with pytest.raises(InputError, match=r"text\.templates: expected \{\} in each where the class"):
        check({"templates": ["a photo"]}, TextOptions, "params.yaml", "extract.text")
