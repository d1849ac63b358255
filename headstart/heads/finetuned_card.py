"""What is known of the fine-tuned model besides its weights. Needs no TensorFlow."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headstart.common.errors import InputError
from headstart.common.files import sha256_of
from headstart.common.seal import require_digest, write_sealed_json
from headstart.heads.base import CARD_FILE, FORMAT, HELD_OUT_FILE, HeadCard, read_card
from headstart.scoring.predictions import Predictions

KIND = "finetuned"
NAME = "fine-tuned model"
"""Of the fine-tuned model among the heads; the name of a head holds no space."""

WEIGHTS_FILE = "finetuned.weights.h5"
TEST_FILE = "test.h5"
_FILES = (WEIGHTS_FILE, HELD_OUT_FILE, TEST_FILE)
_REMEDY = "run `dvc repro finetune` to train it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The head that fine-tuning started from.

    Attributes:
        name: As in params.yaml.
        kind: Which class of head.
        options: Its section of params.yaml.
        seed: Of what it drew.
        card_sha256: Digest of its card, which names that of its weights.
    """

    name: str
    kind: str
    options: dict[str, Any]
    seed: int
    card_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetunedCard:
    """models/finetuned/head.json, written and read like any head's.

    Attributes:
        head: What every head's card says; `identity` is that of the features of the backbone
            before fine-tuning, `options` the section `finetune`.
        start: The head it started from.
        cut: Name of the lowest cut above which something learned; None where everything did.
    """

    head: HeadCard
    start: Start
    cut: str | None

    def write(self, folder: Path) -> None:
        """Write the card, last of all, with the digests of the files that belong to it."""
        digests = {name: sha256_of(folder / name) for name in _FILES if (folder / name).is_file()}
        content = {
            "format": FORMAT,
            **self.head.as_dict(),
            "seed": self.head.options["seed"],
            "weights_file": WEIGHTS_FILE,
            "weights_file_sha256": digests[WEIGHTS_FILE],
            "files": digests,
            "start": asdict(self.start),
            "cut": self.cut,
        }
        write_sealed_json(folder / CARD_FILE, content)


def is_present(folder: Path) -> bool:
    """Return whether there is a fine-tuned model; with `finetune.unfreeze: none` there is none."""
    return (folder / CARD_FILE).is_file()


def read_finetuned_card(folder: Path) -> FinetunedCard:
    """Read the card of a fine-tuned model and check that its files belong to it.

    Raises:
        InputError: there is none, it is of another format, or a file is missing or another one.
    """
    content = read_card(folder)
    if content["kind"] != KIND:
        raise InputError(
            f"{folder / CARD_FILE}: expected a fine-tuned model, received a head of kind "
            f"{content['kind']!r}: {_REMEDY}"
        )
    for name, digest in content["files"].items():
        require_digest(folder / name, digest, folder / CARD_FILE, _REMEDY)
    return FinetunedCard(
        head=HeadCard.from_dict(content), start=Start(**content["start"]), cut=content["cut"]
    )


def read_predictions(folder: Path, split: str) -> Predictions | None:
    """Read the probabilities of the "validation" or "test" images; None where there were none."""
    path = folder / (HELD_OUT_FILE if split == "validation" else TEST_FILE)
    return Predictions.read(path, "finetune") if path.is_file() else None


def remove(folder: Path) -> None:
    """Delete a fine-tuned model, the card first, so that what is left is no model."""
    for name in (CARD_FILE, *_FILES):
        (folder / name).unlink(missing_ok=True)
