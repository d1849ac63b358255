"""What the sections of params.yaml demand of each other, of the catalog and of the classes.

The first stage asks, so that a mistake anywhere in the file is told before anything is computed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np

from headstart.catalog.weights import check_named
from headstart.common.cache import Keep
from headstart.common.code import digest_of_code
from headstart.common.errors import InputError
from headstart.common.params import PARAMS_FILE
from headstart.common.places import PRETRAINED
from headstart.configuration.params import Params
from headstart.dataset.manifest import read_manifest
from headstart.evaluation.slices import check_columns
from headstart.extraction.bottleneck import Network, network_of
from headstart.extraction.texts import class_prompts
from headstart.features.text import required
from headstart.heads import require_start
from headstart.heads.data import class_weights
from headstart.scoring.costs import CostRule

# What every network has, so that it need not be looked at.
_ANYWHERE = ("last_block", "all", "scratch")


def check_sections(params: Params) -> None:
    """Check what the options of a section cannot know of themselves.

    Nothing is downloaded. Only where a layer is named is the network built to look for it, without
    its weights, and the answer is kept in the user's cache folder.

    Raises:
        InputError: a backbone, its weights, size, pooling or layer, or a head does not exist.
    """
    extract, finetune = params.extract, params.finetune
    for name, run in params.pretrain.runs.items():
        with _named("pretrain"):
            run.check_backbone(f"pretrain.runs.{name}")
    with _named("extract"):
        network = network_of(extract)
        if network.file is None:
            check_named(network.spec, extract.weights)
            _check_pretrained(extract.weights, params)
    _check_texts(params, network)
    params.report.check_packages()
    require_start(finetune.start, params.train.heads)
    if network.file is not None:
        finetune.check_file(extract.weights)
    else:
        _check_layers(params, network)


def check_names(params: Params, manifest: Path) -> None:
    """Check the classes and columns that params.yaml names.

    Args:
        params: All sections.
        manifest: The table of images, which is read only where something is named.

    Raises:
        InputError: the images have no such class or column.
    """
    train, evaluate, text = params.train, params.evaluate, params.extract.text
    weights = train.class_weight if isinstance(train.class_weight, dict) else {}
    in_text = text.names or isinstance(text.templates, dict)
    if not (weights or evaluate.costs or evaluate.slices or in_text):
        return
    table = read_manifest(manifest)
    names = table.class_names
    if weights:
        class_weights(weights, names, np.ones(len(names), np.int64))
    CostRule.of(evaluate.costs, evaluate.abstain_cost, names, np.ones(len(names)))
    check_columns(evaluate.slices, table)
    if in_text and network_of(params.extract).spec.pairs_with_text:
        class_prompts(text, names)


def _check_pretrained(weights: str, params: Params) -> None:
    path, runs = Path(weights), params.pretrain.runs
    if path.parent == PRETRAINED and path.name.removesuffix(".weights.h5") not in runs:
        raise InputError(
            f"weights: expected what one of pretrain.runs ({', '.join(runs) or 'there is none'}) "
            f"writes as {PRETRAINED}/<name>.weights.h5, received {weights}"
        )


def _check_texts(params: Params, network: Network) -> None:
    for name, head in params.train.heads.items():
        by_text = head.kind == "zero_shot" or (head.kind == "logistic" and head.start == "text")
        if by_text and not network.spec.pairs_with_text:
            required(None, f"train.heads.{name}", network.spec.name)


def _check_layers(params: Params, network: Network) -> None:
    extract, finetune = params.extract, params.finetune
    steps: list[str | float] = []
    if finetune.start is not None:
        steps = [*(step.unfreeze for step in finetune.stages), finetune.unfreeze]
    named = [step for step in steps if isinstance(step, str) and step not in _ANYWHERE]
    if extract.layer == "auto" and len(steps) < 2 and not named:
        return
    keep = Keep("cuts")
    key = {
        "backbone": network.spec.name,
        "image_size": list(network.image_size),
        "layer": network.layer,
        "pooling": extract.pooling,
        "steps": steps,
        "keras": version("keras"),
        "code": digest_of_code(["catalog", "finetuning"]),
    }
    if keep.get(key) is not None:
        return
    # Here, because importing TensorFlow takes seconds.
    from headstart.catalog.building import build_architecture
    from headstart.catalog.readout import Readout
    from headstart.finetuning.plan import plan_steps

    backbone = build_architecture(network.spec, network.image_size, seed=0)
    with _named("extract"):
        readout = Readout.of(network.spec, extract.pooling, network.image_size)
        backbone = readout.up_to(backbone, network.layer)
    if steps:
        with _named("finetune"):
            plan_steps(backbone, finetune)
    keep.put(key, {"found": True})


@contextmanager
def _named(section: str) -> Iterator[None]:
    """Put the file in front of what an error in the block says, and the section if that lacks."""
    try:
        yield
    except InputError as error:
        inside = "" if str(error).startswith(f"{section}.") else f"{section}."
        raise InputError(f"{PARAMS_FILE}: {inside}{error}") from None
