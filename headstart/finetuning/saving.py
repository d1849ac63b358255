"""The fine-tuned model on disk: Keras weights and a card, nothing that is executed."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from headstart.catalog import building
from headstart.catalog.readout import Readout
from headstart.common.files import atomic_write
from headstart.common.tensorflow_runtime import keras
from headstart.extraction.bottleneck import recover_spec
from headstart.features.identity import FeatureIdentity
from headstart.finetuning.assembly import Assembly
from headstart.finetuning.head_layers import empty_layers
from headstart.heads import create
from headstart.heads.base import HeadCard
from headstart.heads.finetuned_card import WEIGHTS_FILE, FinetunedCard, Start, read_finetuned_card
from headstart.heads.options import HeadOptions


@dataclass(frozen=True, slots=True)
class Finetuned:
    """A fine-tuned model, ready to classify.

    Attributes:
        card: What is known of it; `card.head` holds class_names, the identity of its input
            (backbone, image size, preprocessing, resizing) and the temperature that logits are
            divided by before the softmax.
        assembly: `assembly.logits_from(None, images=True)` is the Keras model from RGB images
            (batch, height, width, 3) uint8 to logits, without `images` the one from preprocessed
            float32 images.
    """

    card: FinetunedCard
    assembly: Assembly


def save_weights(assembly: Assembly, folder: Path) -> None:
    """Write all weights, backbone and head, the same bytes for the same weights."""
    model = assembly.logits_from(None)
    with atomic_write(folder / WEIGHTS_FILE, room=4 * model.count_params()) as temporary:
        model.save_weights(temporary)


def load_finetuned(folder: Path) -> Finetuned:
    """Load models/finetuned; nothing in the folder is executed, and no other file is needed.

    Raises:
        InputError: there is no fine-tuned model, or its files do not belong together.
    """
    card = read_finetuned_card(folder)
    head = card.head
    assembly = build_assembly(head.identity, _empty_head(card.start, head))
    assembly.logits_from(None).load_weights(folder / WEIGHTS_FILE)
    return Finetuned(card, assembly)


def build_assembly(identity: FeatureIdentity, head: keras.Model) -> Assembly:
    """Build the architecture with random weights in the backbone."""
    spec = recover_spec(identity)
    backbone = building.build_architecture(spec, identity.image_size, seed=0)
    readout = Readout.of(spec, identity.pooling, identity.image_size)
    return Assembly(readout.up_to(backbone, identity.layer), spec.preprocessing, readout, head)


def _empty_head(start: Start, head: HeadCard) -> keras.Model:
    options: HeadOptions = TypeAdapter(HeadOptions).validate_python(start.options)
    return empty_layers(create(options, start.seed), head.feature_shape, len(head.class_names))
