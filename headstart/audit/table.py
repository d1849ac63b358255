"""The tables of the audit: what is suspected, and which images say so."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from headstart.common.files import write_table

Kind = Literal[
    "label", "conflict", "outlier", "blank", "blurred", "dark", "tiny", "aspect", "merge", "few"
]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Of images: a label that is likely wrong, one picture under two labels, unlike everything; then
pictures that show little; of classes: two that cannot be told apart, and one with too few images.
"""

Role = Literal["given", "suggested", "copy"]


class Suspect(NamedTuple):
    """A line of data/audit.csv.

    Attributes:
        sha256: Digest of the image; empty where a class is meant.
        path: Its path; empty where a class is meant.
        kind: See `KINDS`.
        score: In [0, 1], higher is worse; of a label the probability that it is wrong.
        given: The label it has, or the class that is meant.
        suggested: The label it should have, as far as can be told, or the class to merge with;
            empty for none.
    """

    sha256: str
    path: str
    kind: Kind
    score: float
    given: str
    suggested: str


class Evidence(NamedTuple):
    """A line of data/audit_neighbors.csv: an image to look at beside a suspect.

    Attributes:
        sha256: Digest of the suspect.
        role: "given" and "suggested": among the nearest images of that class; "copy": a near
            duplicate with another label.
        other_path: Path of the image.
        other_label: Its label.
        similarity: Cosine of the two features less the mean of all, in [-1, 1]; of a copy the
            correlation of the pictures.
    """

    sha256: str
    role: Role
    other_path: str
    other_label: str
    similarity: float


def write_audit(
    suspects: Iterable[Suspect],
    evidence: Iterable[Evidence],
    suspects_table: Path,
    evidence_table: Path,
) -> None:
    """Write both tables, in the order given."""
    write_table(suspects_table, Suspect._fields, suspects)
    write_table(evidence_table, Evidence._fields, evidence)
