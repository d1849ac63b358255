"""What stands on the page: plain frozen records that the template and the scripts draw.

Collecting fills them, rendering writes them; neither knows how the other works.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from headstart.report.care import GroupsPart, LookPart, OperatingPart

Series = tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An image that the page holds a thumbnail of.

    Attributes:
        path: As `ShownPaths` tells it, as all paths on the page.
        label: Class index.
        split: "train", "validation" or "test".
        thumbnail: `data:` URI of a small JPEG or WebP; empty when the file is gone.
        sha256: Digest of the file, by which it is corrected.
    """

    path: str
    label: int
    split: str
    thumbnail: str
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownLeak:
    """Two images alike that stand in different splits.

    Attributes:
        paths: Of the two.
        splits: Of the two.
        how: "exact", "near", "mirrored" or "features".
        pictures: Their numbers in `Report.pictures`, None for one without a thumbnail.
    """

    paths: tuple[str, str]
    splits: tuple[str, str]
    how: str
    pictures: tuple[int | None, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataPart:
    """The images and how they are split.

    Attributes:
        counts: Per class, in the order of class_names: images in train, validation, test.
        samples: Per class, numbers of pictures.
        quarantine: (path, reason) of files that could not be read, the first of them.
        n_quarantine: How many there are in all.
        leaks: The first of them; None when no audit was written.
        n_leaks: How many there are in all.
        duplicates: Exact duplicates found; None when not counted.
        clean: The selected head's test accuracy without test images that have a copy in another
            split; None when there is no such image.
        n_leaked: How many test images that leaves out.
    """

    counts: tuple[tuple[int, int, int], ...]
    samples: tuple[tuple[int, ...], ...]
    quarantine: tuple[tuple[str, str], ...] = ()
    n_quarantine: int = 0
    leaks: tuple[ShownLeak, ...] | None = None
    n_leaks: int = 0
    duplicates: int | None = None
    clean: float | None = None
    n_leaked: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One line about a stage: a text of the text table and what fills it.

    Attributes:
        text: Key of the text table.
        values: What its placeholders stand for.
    """

    text: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStep:
    """A stage of the pipeline as it ran.

    Attributes:
        stage: Name in dvc.yaml.
        facts: What it did.
        computed: Feature vectors that the backbone computed; None where that has no meaning.
        reused: Feature vectors taken from the store.
    """

    stage: str
    facts: tuple[Fact, ...]
    computed: int | None = None
    reused: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownScore:
    """A score and, where one was computed, its 95 % interval."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a chart.

    Attributes:
        name: Key of the text table, or a head's name where there is no such key.
        x: Positions.
        y: Values; None leaves a gap.
        counts: Images behind each point, written beside it; None for no numbers.
    """

    name: str
    x: Series
    y: Series
    counts: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A line chart of one head.

    Attributes:
        title: Key of the text table, as are the axes' titles.
        x_title: What x is.
        y_title: What y is.
        lines: At least one.
        x_log: Whether the x axis is logarithmic.
        mark: The x that was chosen; None for none.
        diagonal: Whether x = y is drawn, on which a perfect (reliability) or a guessing (ROC)
            classifier lies.
        basis: Which images it is of, or which classes; None where the title says it.
    """

    title: str
    x_title: str
    y_title: str
    lines: tuple[Line, ...]
    x_log: bool = False
    mark: float | None = None
    diagonal: bool = False
    basis: Fact | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPrediction:
    """What a head says of one pictured test image.

    Attributes:
        picture: Number of the picture.
        classes: Class indices, most probable first; the own class is always among them.
        probabilities: Theirs, in [0, 1].
    """

    picture: int
    classes: tuple[int, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadPart:
    """One head: settings, scores, curves, confusions, predictions.

    Attributes:
        name: As in params.yaml.
        kind: Which class of head, such as "logistic".
        settings: What was chosen or set, by name.
        scores: By split, then by metric; among them `images`, and `folds` where validation is a
            cross-validation.
        charts: Learning curves, selection path.
        confusion: True class, predicted class and number of test images, where there are any;
            None when it was not evaluated.
        predictions: Of the pictured test images.
    """

    name: str
    kind: str
    settings: dict[str, Any]
    scores: dict[str, dict[str, ShownScore]]
    charts: tuple[Chart, ...] = ()
    confusion: tuple[tuple[int, int, int], ...] | None = None
    predictions: tuple[ShownPrediction, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MapPart:
    """The features in two dimensions.

    Attributes:
        pictures: Numbers of the pictures that are points.
        total: How many images there are in all.
        projections: By method ("pca", "tsne", "umap"): the points' (x, y).
        explained: Share of the variance that each PCA axis holds.
    """

    pictures: tuple[int, ...]
    total: int
    projections: dict[str, tuple[tuple[float, float], ...]]
    explained: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestPictures:
    """The training images nearest to a test image in feature space.

    Attributes:
        picture: The test image.
        nearest: Pictures of training images, nearest first.
        similarities: Their cosine, in [-1, 1].
    """

    picture: int
    nearest: tuple[int, ...]
    similarities: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap:
    """Where the evidence for one class lies in an image.

    Attributes:
        picture: The image.
        label: The class that the evidence is for.
        grid: Evidence at each position of the last feature map, in [0, 1].
    """

    picture: int
    label: int
    grid: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatPart:
    """Heat maps of one head.

    Attributes:
        head: Whose decisions they explain.
        views: By picture: the image as the backbone saw it, as a `data:` URI.
        maps: One or two per picture: for the class decided on, and for the own class.
        with_class_token: Whether the head also looks at class tokens, of which no map can be.
    """

    head: str
    views: dict[int, str]
    maps: tuple[HeatMap, ...]
    with_class_token: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedCandidate:
    """One backbone or setting of a comparison, run on all images.

    Attributes:
        label: What sets it apart.
        head: The head that validation chose.
        validation: That head's validation accuracy.
        test: Its test accuracy.
        milliseconds: Of one image through the backbone, on the machine of the comparison.
        multiply_adds: Of one image through the backbone.
        parameters: Of the backbone.
        megabytes: Of its weights.
        on_front: Whether nothing else is at least as accurate and faster.
        standing: What the test images say of it and the winner: "winner", "tie", "better",
            "worse", or empty.
    """

    label: str
    head: str
    validation: float
    test: ShownScore
    milliseconds: float
    multiply_adds: int
    parameters: int
    megabytes: float
    on_front: bool
    standing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonPart:
    """What `headstart compare` found.

    Attributes:
        candidates: The highest test accuracy first.
        dropped: Label, share of the images and validation accuracy of those given up on.
        failed: Labels that did not run.
        computed: Images that went through a backbone.
        without_budget: How many it would have been with all candidates on all images.
    """

    candidates: tuple[ComparedCandidate, ...]
    dropped: tuple[tuple[str, float, float], ...]
    failed: tuple[str, ...]
    computed: int
    without_budget: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreGap:
    """What the scores of a split say nothing about.

    Attributes:
        split: "validation" or "test".
        classes: Names of the classes without an image in it; empty where it has no image at all.
    """

    split: str
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The whole page.

    Attributes:
        class_names: A class index is a position in it.
        pictures: All thumbnails; other parts name them by position.
        data: The images.
        steps: The stages, in order.
        heads: As in params.yaml.
        selected: Name of the head chosen on validation; None without heads.
        by_default: Whether no image could be held out to choose it by.
        held_out: How many images it was chosen by.
        ties: Heads that the validation images cannot distinguish from it.
        gaps: Per split that lacks classes.
        look: Suspects and corrections.
        groups: None where no part of the test images was scored apart.
        operating: None where the model always names one class, the likeliest.
        map: None when there are fewer than three images.
        neighbors: For some test images.
        heat: None where the features know no positions, or no image could be read.
        no_heat: What the features are instead: "class_token" or "vector"; None where there are
            heat maps, or nothing to make them of.
        comparison: None where none was made or is not asked for.
        used: How many images have features; None for all.
        run: What sets this run apart, for the head of the page, by name.
        params: params.yaml, without comments and folders; empty without one.
        facts: Digests and versions, by name.
    """

    class_names: tuple[str, ...]
    pictures: tuple[Picture, ...]
    data: DataPart
    steps: tuple[StageStep, ...]
    heads: tuple[HeadPart, ...]
    selected: str | None
    by_default: bool = False
    held_out: int = 0
    ties: tuple[str, ...] = ()
    gaps: tuple[ScoreGap, ...] = ()
    look: LookPart = field(default_factory=LookPart)
    groups: GroupsPart | None = None
    operating: OperatingPart | None = None
    map: MapPart | None = None
    neighbors: tuple[NearestPictures, ...] = ()
    heat: HeatPart | None = None
    no_heat: Literal["class_token", "vector"] | None = None
    comparison: ComparisonPart | None = None
    used: int | None = None
    run: dict[str, str] = field(default_factory=dict)
    params: str = ""
    facts: dict[str, str] = field(default_factory=dict)
