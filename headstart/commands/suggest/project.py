"""What the project in this folder knows: its extractor, and which images are labelled."""

from dataclasses import dataclass

from headstart.commands.suggest import classifier
from headstart.commands.suggest.classifier import Classifier
from headstart.commands.suggest.selection import Known
from headstart.common import places
from headstart.common.params import load_section
from headstart.dataset.manifest import Manifest, ManifestRow, read_manifest
from headstart.extraction import engines
from headstart.extraction.bottleneck import Bottleneck, identify, recover
from headstart.extraction.options import ExtractOptions
from headstart.features.file import FeatureFile
from headstart.features.matrix import Matrix
from headstart.heads.data import STREAMING_ABOVE, units_of


@dataclass(frozen=True, slots=True)
class ProjectState:
    """What suggestions start from.

    Attributes:
        bottleneck: The extractor.
        labelled: Images that need no label, of all splits.
        file: Their features; None before the first run.
    """

    bottleneck: Bottleneck
    labelled: tuple[ManifestRow, ...]
    file: FeatureFile | None

    def known(self, seed: int) -> tuple[Known, Classifier | None] | None:
        """Return what training and validation images teach; None without any.

        Test images teach nothing, here as everywhere.

        Args:
            seed: Of the classifier's folds.
        """
        if self.file is None:
            return None
        file, rows = self.file, self.file.rows("train", "validation")
        if not len(rows):
            return None
        found = classifier.fit(
            file.features,
            rows,
            file.label[rows],
            units_of(file)[rows],
            streaming_above=STREAMING_ABOVE,
            seed=seed,
        )
        vectors = Matrix(file.features, rows, STREAMING_ABOVE)
        if found is None:
            return Known(vectors, None, 0.0), None
        return Known(vectors, found.probabilities, len(rows) / len(found.classes)), found


def project_state() -> ProjectState:
    """Read what the last run has left, or params.yaml alone where there was none.

    Raises:
        InputError: there is neither, a file of the run is damaged, or the extractor is not to be
            had.
    """
    labelled: Manifest | tuple[()] = ()
    if places.MANIFEST.is_file():
        labelled = read_manifest(places.MANIFEST)
    if places.FEATURES.is_file():
        file = FeatureFile.open(places.FEATURES)
        return ProjectState(recover(file.header.identity), tuple(labelled), file)
    options = load_section("extract", ExtractOptions)
    engine = engines.resolve(options.engine, options.precision, options.backbone)
    return ProjectState(identify(options, engine), tuple(labelled), None)
