"""Text vectors of the class names, computed once and kept by what decides them."""

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.catalog.hub import text
from headstart.common.cache import Keep
from headstart.common.code import digest_of_code
from headstart.common.errors import InputError
from headstart.common.progress import progress
from headstart.extraction.bottleneck import Bottleneck
from headstart.extraction.options import DEFAULT_TEMPLATES, TextOptions
from headstart.features.text import ClassTexts, Texts

_LIBRARIES = ("keras", "keras-hub", "tensorflow")


def class_texts(
    bottleneck: Bottleneck,
    options: TextOptions,
    class_names: Sequence[str],
    keep: Keep | None = None,
) -> Texts:
    """Return the text vectors of classes, or why there are none.

    A class's vector is the mean of its prompts' vectors, each of length 1, at length 1 again.

    Args:
        bottleneck: Whose features they shall stand beside.
        options: The section `extract.text`.
        class_names: Names of the classes.
        keep: Where vectors are kept; the user's cache folder by default.

    Raises:
        InputError: a class is named that does not exist, or the text tower cannot be loaded.

    Source: of the mean of several prompts, Radford et al., Learning Transferable Visual Models
        From Natural Language Supervision, ICML 2021, section 3.1.4.
    """
    if not bottleneck.spec.pairs_with_text:
        return None
    prompts = class_prompts(options, class_names)
    if reason := _reason(bottleneck):
        return reason
    keep = keep or Keep("texts")
    common = _common_key(bottleneck)
    keys = [{**common, "prompts": own} for own in prompts]
    content = [keep.get(key) for key in keys]
    missing = [index for index, one in enumerate(content) if one is None]
    if missing:
        # Each as soon as it is done: with many names and templates it takes hours on a CPU.
        computed = _compute(bottleneck, [prompts[index] for index in missing])
        for index, one in zip(missing, computed, strict=True):
            content[index] = one
            keep.put(keys[index], one)
    return ClassTexts(
        vectors=np.array([one["vector"] for one in content], np.float32),
        scale=content[0]["scale"],
        bias=content[0]["bias"],
        prompts=tuple(tuple(own) for own in prompts),
    )


def class_prompts(options: TextOptions, class_names: Sequence[str]) -> list[list[str]]:
    """Return the sentences that stand for each class.

    Raises:
        InputError: a class is named that does not exist.
    """
    by_class = options.templates if isinstance(options.templates, dict) else {}
    for key, named in (("names", options.names), ("templates", by_class)):
        if unknown := sorted(set(named) - set(class_names)):
            raise InputError(
                f"params.yaml: extract.text.{key}: no class is called {', '.join(unknown)}; the "
                f"classes are {', '.join(class_names)}"
            )
    prompts = []
    for label in class_names:
        spoken = label.replace("_", " ").replace("-", " ")
        given = options.names.get(label, spoken)
        names = [given] if isinstance(given, str) else given
        if isinstance(options.templates, dict):
            templates = options.templates.get(label, DEFAULT_TEMPLATES)
        else:
            templates = options.templates
        # A template without a place for the name is one sentence, whatever the names.
        sentences = [template.replace("{}", name) for template in templates for name in names]
        prompts.append(list(dict.fromkeys(sentences)))
    return prompts


def _reason(bottleneck: Bottleneck) -> str:
    spec, weights, tap = bottleneck.spec, bottleneck.weights, bottleneck.taps[0]
    if tap.layer != spec.feature_layer:
        return (
            f"extract.layer is {tap.layer}, and text shares the space of {spec.feature_layer} "
            "alone: set extract.layer to auto, and run `dvc repro`"
        )
    if weights.path is None:
        return "extract.weights is random: name a preset's folder or pretrained, run `dvc repro`"
    if missing := text.lacking(weights.path):
        return (
            f"the preset in {weights.path} lacks {missing}: add the tokenizer's files as "
            "keras_hub's save_to_preset writes them, and run `dvc repro`"
        )
    return ""


def _common_key(bottleneck: Bottleneck) -> dict[str, Any]:
    weights = bottleneck.weights
    assert weights.path is not None
    return {
        "weights": weights.sha256,
        "tokenizer": text.digest(weights.path),
        "versions": {name: version(name) for name in _LIBRARIES},
        "code": digest_of_code(["catalog"]),
    }


def _compute(bottleneck: Bottleneck, prompts: Sequence[Sequence[str]]) -> Iterator[dict[str, Any]]:
    """Yield what is kept of each class, in their order."""
    # Here, because importing TensorFlow takes seconds.
    from headstart.catalog.hub.text_tower import TextTower

    assert bottleneck.weights.path is not None
    tower = TextTower(bottleneck.spec, bottleneck.weights.path)
    sentences = list(dict.fromkeys(one for own in prompts for one in own))
    vectors: dict[str, NDArray[np.float64]] = {}
    blocks = tower.embed(sentences)
    with progress(total=len(sentences), desc="Reading names", unit="text") as bar:
        for own in prompts:
            while not vectors.keys() >= set(own):
                block = next(blocks)
                done = sentences[len(vectors) : len(vectors) + len(block)]
                vectors.update(zip(done, _unit(block), strict=True))
                bar.update(len(block))
            (mean,) = _unit(np.mean([vectors[one] for one in own], axis=0, keepdims=True))
            vector = mean.astype(np.float32).tolist()
            yield {"vector": vector, "scale": tower.scale, "bias": tower.bias}


def _unit(vectors: NDArray[Any]) -> NDArray[np.float64]:
    exact = vectors.astype(np.float64)
    lengths: NDArray[np.float64] = np.linalg.norm(exact, axis=1, keepdims=True)
    return exact / np.maximum(lengths, 1e-12)
