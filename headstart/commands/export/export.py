"""One export: write the model, load it again, compare it with the pipeline, describe it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.commands.export.checking import (
    BOUND,
    Agreement,
    Reference,
    compare,
    evenly,
)
from headstart.commands.export.formats import LABELS_FILE, Calibration, Format, KerasModel
from headstart.commands.export.writers import writer_of
from headstart.common.errors import InputError
from headstart.common.files import atomic_folder, write_json
from headstart.dataset.manifest import ManifestRow
from headstart.evaluation.operating import OperatingPoint
from headstart.heads.base import HeadCard
from headstart.images.decoding import read_checked
from headstart.images.resizing import resize

CARD_FILE = "README.md"
"""The model card, under the name that model hubs read."""

RECORD_FILE = "export.json"

CHECKED_IMAGES = 32
MEASURED_IMAGES = 500
"""Images, at most, on which the accuracy of an 8-bit model is measured."""

CALIBRATION_IMAGES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportJob:
    """What is exported.

    Attributes:
        format: Into which format.
        model: From pixels to probabilities.
        card: The card of the head or fine-tuned model.
        reference: Gives test images and what the pipeline says of them. Asked after the model is
            written: TensorFlow numbers functions over a process' life, and the numbers are names in
            a SavedModel, which shall not depend on whether features were in the store.
        training: Rows of training images; an 8-bit model is calibrated on some. Empty for a model
            in floating point.
        point: What decides on its probabilities; None where nothing does.
    """

    format: Format
    model: KerasModel
    card: HeadCard
    reference: Callable[[], Reference]
    training: Sequence[ManifestRow] = ()
    point: OperatingPoint | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """The result.

    Attributes:
        folder: Where everything lies.
        megabytes: Size of the model itself.
        agreement: With the pipeline.
    """

    folder: Path
    megabytes: float
    agreement: Agreement


def check_folder(folder: Path) -> None:
    """Refuse to replace anything but an export.

    Raises:
        InputError: the folder holds something else.
    """
    is_export = (folder / RECORD_FILE).is_file()
    if folder.exists() and not is_export and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(
            f"{folder}: expected a new or empty folder or an earlier export to replace, received "
            "something else; name another with --output"
        )


def export(job: ExportJob, folder: Path, describe: Callable[[Exported], str]) -> Exported:
    """Export a model.

    Args:
        job: What.
        folder: Where to; replaced as a whole, and only after the check has succeeded.
        describe: Writes the model card.

    Raises:
        InputError: the exported model does not say what the pipeline says, or `folder` holds
            something other than an export.
    """
    check_folder(folder)
    # A link stays, and what it leads to is replaced.
    with atomic_folder(folder.resolve()) as new:
        writer = writer_of(job.format)
        calibration = _calibration(job) if job.training else None
        writer.write(job.model, new, job.card.class_names, calibration)
        agreement = compare(writer.load(new), job.reference())
        if calibration is None and agreement.largest_difference > BOUND:
            raise InputError(
                f"{job.format.name}: the exported model differs from the pipeline by "
                f"{agreement.largest_difference:.1e} in a probability of {agreement.worst}; at "
                f"most {BOUND:.0e} is accepted, so nothing was written. Choose another format"
            )
        size = sum(file.stat().st_size for file in new.rglob("*") if file.is_file())
        exported = Exported(folder, size / 1e6, agreement)
        _write_records(job, new, exported, describe(exported))
    return exported


def _calibration(job: ExportJob) -> Calibration:
    chosen = [job.training[index] for index in evenly(len(job.training), CALIBRATION_IMAGES)]
    sizing = job.card.identity.sizing

    def pixels() -> Iterator[NDArray[np.uint8]]:
        for row in chosen:
            yield resize(read_checked(row.path, row.sha256), sizing)[np.newaxis]

    return pixels


def _write_records(job: ExportJob, folder: Path, exported: Exported, model_card: str) -> None:
    card = job.card
    labels = "\n".join(card.class_names) + "\n"
    (folder / LABELS_FILE).write_text(labels, encoding="utf-8")
    (folder / CARD_FILE).write_text(model_card, encoding="utf-8")
    record: dict[str, Any] = {
        "format": job.format.name,
        "file": job.format.file,
        "quantize": "int8" if job.training else None,
        "class_names": list(card.class_names),
        "head": card.kind,
        "feature_digest": card.identity.feature_digest,
        "agreement": asdict(exported.agreement),
    }
    if job.point is not None:
        record["operating"] = job.point.as_dict()
    write_json(folder / RECORD_FILE, record)
