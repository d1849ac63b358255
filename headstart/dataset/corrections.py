"""What somebody who looked at images decided: a table of corrections, and what follows from it.

A correction holds for a content, so for all copies of a file, wherever they lie. It changes labels
and what is left out, never a split: those are assigned by the labels that the source gives, with
all images in place. So scores before and after are of the same test images.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from headstart.common.errors import InputError
from headstart.common.files import write_table
from headstart.common.vocabulary import DROPPED
from headstart.dataset.manifest import ManifestRow
from headstart.dataset.tables import Line, open_table

Action = Literal["keep", "relabel", "drop"]
ACTIONS: tuple[Action, ...] = get_args(Action)

COLUMNS = ("sha256", "action", "label", "note")

_KEY = "prepare.corrections"
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Correction(NamedTuple):
    """A line of the table.

    Attributes:
        sha256: Digest of the image's content.
        action: "keep": the label is right. "relabel": it is another one. "drop": leave it out.
        label: The right label; may be empty where the action is not "relabel".
        note: Whatever there is to say.
        line: Where it stands in the table.
    """

    sha256: str
    action: Action
    label: str
    note: str
    line: int


def read_corrections(source: str | None) -> tuple[Correction, ...]:
    """Read a table of corrections.

    Args:
        source: Path of the table, `~` is the home folder; None for no corrections.

    Returns:
        In the order of the table, one per content.

    Raises:
        InputError: the table is missing or none, or a line of it is wrong or contradicts another.
    """
    if source is None:
        return ()
    found: dict[str, Correction] = {}
    try:
        path = Path(source).expanduser()
        if not path.is_file():
            raise FileNotFoundError
        with open_table(path, COLUMNS, needed=2) as table:
            for line in table:
                one = _correction(path, line)
                other = found.setdefault(one.sha256, one)
                if (one.action, one.label) != (other.action, other.label):
                    raise InputError(
                        f"{path}, line {one.line}: {_decision(one)}, but line {other.line} says "
                        f"{_decision(other)} of the same image. Keep one of them."
                    )
    except (OSError, ValueError, RuntimeError):  # a zero byte; `~nobody`
        raise InputError(
            f"{_KEY}: {source} is no file (looked for {Path(source).absolute()}). Expected a .csv "
            f"with the columns {','.join(COLUMNS)}, such as the report saves; null for none."
        ) from None
    return tuple(found.values())


def _correction(path: Path, line: Line) -> Correction:
    values = line.values
    sha256, label = values["sha256"].lower(), unicodedata.normalize("NFC", values["label"])
    action = next((action for action in ACTIONS if action == values["action"].lower()), None)
    if not _SHA256.fullmatch(sha256):
        problem = f"sha256: expected 64 hexadecimal digits, received {values['sha256'][:80]!r}"
        remedy = "data/manifest.csv has those of all images"
    elif action is None:
        problem = (
            f"action: expected one of {', '.join(ACTIONS)}, received {values['action'][:60]!r}"
        )
        remedy = "Correct it"
    elif action == "relabel" and not label:
        problem = "label: expected the right label of the image to relabel, received nothing"
        remedy = "Fill it in"
    else:
        return Correction(sha256, action, label, values["note"], line.number)
    raise InputError(f"{path}, line {line.number}: {problem}. {remedy}.")


def _decision(one: Correction) -> str:
    return f"{one.action} {one.label!r}" if one.label else one.action


def write_corrections(path: Path, corrections: Iterable[Correction]) -> None:
    """Write data/corrections.csv; a header alone when there are none."""
    write_table(path, COLUMNS, (one[: len(COLUMNS)] for one in corrections))


def corrected(row: ManifestRow, correction: Correction | None) -> ManifestRow:
    """Return an image as a correction makes it; `DROPPED` where that leaves it out.

    Args:
        row: With the label that the source gives, empty for none, and its split.
        correction: What holds for it, if anything.

    Raises:
        InputError: the correction keeps a label that the image does not have.
    """
    if correction is None:
        return row
    if correction.action == "drop":
        return row._replace(split=DROPPED)
    if correction.action == "keep" and correction.label not in ("", row.label):
        raise InputError(
            f"{_KEY}, line {correction.line}: keeps the label {correction.label!r} of {row.path}, "
            f"expected the one that it has, {row.label!r}. Use relabel, or leave the label empty."
        )
    if correction.label in ("", row.label):
        return row._replace(correction="keep")
    return row._replace(label=correction.label, correction="relabel", given_label=row.label)


def why_dropped(source: str, correction: Correction) -> str:
    """Return the reason for data/quarantine.csv."""
    note = f": {correction.note}" if correction.note else ""
    return f"dropped by {source}{note}"


def check_trained(rows: Sequence[ManifestRow]) -> None:
    """Refuse corrections that leave a class without a training image.

    Args:
        rows: The images in a split, corrected.

    Raises:
        InputError: a class has images, but none to train on.
    """
    trained = {row.label for row in rows if row.split == "train"}
    for label in sorted({row.label for row in rows} - trained):
        left = [row for row in rows if row.label == label]
        raise InputError(
            f"{_KEY}: class {label!r} has no training image, since corrections move no image to "
            f"another split: all of its {len(left)} images, such as {left[0].path}, are for "
            f"{' and '.join(sorted({row.split for row in left}))}. Give a training image this "
            "label, or relabel or drop these."
        )
