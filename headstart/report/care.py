"""What the page shows of the care of the data: suspects, corrections, groups, operating points.

Plain frozen records, as in `headstart.report.content`.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownEvidence:
    """An image to look at beside a suspect.

    Attributes:
        role: "given" and "suggested": among the nearest images of that class; "copy": a near
            duplicate with another label.
        path: As in the manifest.
        label: Name of its class.
        similarity: In [-1, 1].
        picture: Its number in `Report.pictures`; None without a thumbnail.
    """

    role: str
    path: str
    label: str
    similarity: float
    picture: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownSuspect:
    """An image, or a class, with which something may be wrong.

    Attributes:
        kind: As in data/audit.csv.
        score: In [0, 1], higher is worse; of a label the probability that it is wrong.
        given: Name of the class it has, or of the class that is meant.
        suggested: Name of the class it should have, or to merge with; empty for none.
        sha256: Digest of the image; empty where a class is meant.
        path: Its path; empty where a class is meant.
        picture: Its number in `Report.pictures`; None without a thumbnail.
        evidence: What to look at beside it.
    """

    kind: str
    score: float
    given: str
    suggested: str
    sha256: str = ""
    path: str = ""
    picture: int | None = None
    evidence: tuple[ShownEvidence, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownCorrection:
    """A correction that the run was made with.

    Attributes:
        sha256: Digest of the image.
        action: "keep", "relabel" or "drop".
        label: Name of the new class; empty but for "relabel".
        note: What somebody wrote beside it.
        path: Of the image, the first of its copies; empty where the manifest has none.
        picture: Its number in `Report.pictures`; None without a thumbnail.
    """

    sha256: str
    action: str
    label: str
    note: str
    path: str
    picture: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LookPart:
    """What people should look at, and what they said before.

    Attributes:
        run: Digest of suspects and corrections, under which a browser keeps new decisions.
        audited: Whether an audit was made, whatever it found.
        suspects: Images, kind by kind, the worst first.
        large: By number in `Report.pictures`: a larger picture of the suspect, as a `data:` URI.
        classes: Classes, in the same order.
        corrections: Those that the run was made with.
        counts: How many of them did what, by name; empty without any.
    """

    run: str = ""
    audited: bool = False
    suspects: tuple[ShownSuspect, ...] = ()
    large: dict[int, str] = field(default_factory=dict)
    classes: tuple[ShownSuspect, ...] = ()
    corrections: tuple[ShownCorrection, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownGroup:
    """Test images that belong together, scored against the others.

    Attributes:
        name: Value of the column, or number of the cluster.
        images: How many.
        accuracy: Of the selected model on them, in [0, 1].
        rest: On all others.
        difference: The first less the second.
        low: Of its 95 % interval.
        high: Of its 95 % interval.
        within_classes: The difference if the others had the group's share of each class; None where
            that cannot be told.
        p: That chance alone gives such a difference, after Holm's correction.
        weak: Whether the model is worse here beyond chance.
        pictures: Numbers of its images' pictures, where they are shown.
    """

    name: str
    images: int
    accuracy: float
    rest: float
    difference: float
    low: float
    high: float
    within_classes: float | None
    p: float
    weak: bool
    pictures: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupsPart:
    """How the selected model does on parts of the test images.

    Attributes:
        slices: By column of the source's table, the weak first.
        left_out: By column, what has no place in them: values with too few images ("too_few"),
            values beyond the most common ("too_many"), images without one ("without_value").
        clusters: Of images alike to the backbone, in which mistakes gather.
    """

    slices: dict[str, tuple[ShownGroup, ...]]
    left_out: dict[str, dict[str, int]]
    clusters: tuple[ShownGroup, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPart:
    """What the selected model does where it names several classes, or none.

    Attributes:
        coverage: Of sets of classes, by name: value and 95 % interval, where it has one; empty
            where no sets are made.
        decisions: By costs, in the same way; empty where none are given.
    """

    coverage: dict[str, tuple[float, float | None, float | None]]
    decisions: dict[str, tuple[float, float | None, float | None]]
