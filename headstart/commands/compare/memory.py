"""What earlier comparisons found, kept in the cache folder under all that decides it."""

import time
from collections.abc import Set
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from headstart.commands.compare.answers import Answers
from headstart.commands.compare.candidates import Candidate
from headstart.commands.compare.halving import Merit, Trial
from headstart.commands.compare.reading import Images
from headstart.commands.compare.results import Outcome
from headstart.common import places
from headstart.common.cache import Keep
from headstart.common.code import LIBRARY, digest_of_files
from headstart.common.errors import InputError
from headstart.dataset.corrections import read_corrections
from headstart.dataset.prepared import digest_of_states
from headstart.dataset.sources import list_files

_LIBRARIES = (
    "keras",
    "numpy",
    "opencv-python-headless",
    "openvino",
    "pillow",
    "scipy",
    "tensorflow",
)


class Memory:
    """Outcomes and trials of one baseline's candidates, as long as photos and code stay the same.

    Args:
        tree: The baseline's git tree.
        experiments: Names of the DVC experiments that there are; an outcome without its experiment
            is none.
        folder: Of the cache.
    """

    def __init__(self, tree: str, experiments: Set[str], folder: Path) -> None:
        self._tree = tree
        self._experiments = experiments
        self._keep = Keep("comparisons", folder)
        self._now = time.time_ns()
        self._photos = cache(self._look_at)

    def outcome(self, candidate: Candidate) -> Outcome | None:
        """Return what a candidate came to on all images."""
        if candidate.experiment(self._tree) not in self._experiments:
            return None
        content = self._find(candidate, None)
        return None if content is None else Outcome.from_json(content)

    def trial(self, candidate: Candidate, share: float, left_out: Set[str]) -> Trial | None:
        """Return what a candidate came to on a share of the images, without some heads."""
        content = self._find(candidate, [share, *sorted(left_out)])
        if content is None:
            return None
        return Trial(Merit(**content["merit"]), Answers.from_json(content["answers"]))

    def images(self, candidate: Candidate) -> Images | None:
        """Return how many images a candidate has."""
        content = self._find(candidate, "images")
        return None if content is None else Images(*content)

    def put_outcome(self, candidate: Candidate, outcome: Outcome) -> None:
        """Keep what a candidate came to; its experiment has been made."""
        self._put(candidate, None, outcome.as_json())

    def put_trial(
        self, candidate: Candidate, share: float, left_out: Set[str], trial: Trial
    ) -> None:
        """Keep what a candidate came to on a share of the images, without some heads."""
        content = {"merit": asdict(trial.merit), "answers": trial.answers.as_json()}
        self._put(candidate, [share, *sorted(left_out)], content)

    def put_images(self, candidate: Candidate, images: Images) -> None:
        """Keep how many images a candidate has."""
        self._put(candidate, "images", list(images))

    def _find(self, candidate: Candidate, part: Any) -> Any:
        key = self._key(candidate, part)
        return None if key is None else self._keep.get(key)

    def _put(self, candidate: Candidate, part: Any, content: Any) -> None:
        key = self._key(candidate, part)
        if key is not None:
            self._keep.put(key, content)

    def _key(self, candidate: Candidate, part: Any) -> Any:
        """Return what decides a candidate's outcome; None where a change might not show in it."""
        params = candidate.params
        photos = self._photos(params.prepare.sources)
        others = self._photos((params.pretrain.source,)) if params.pretrain.runs else ("", True)
        if not (photos[1] and others[1]):
            return None
        return {
            "tree": self._tree,
            "overrides": candidate.overrides,
            "part": part,
            "photos": [photos[0], others[0]],
            "corrections": read_corrections(params.prepare.corrections),
            # That of the weights is part of it.
            "extractor": candidate.bottleneck.taps[0].fingerprint,
            "code": _code(),
            "versions": {name: version(name) for name in _LIBRARIES},
        }

    def _look_at(self, sources: tuple[str, ...]) -> tuple[str, bool]:
        """Return the digest of the photos' states, and whether a change of them would show."""
        if [Path(source) for source in sources] == [places.MANIFEST]:
            return "", True  # made of the others
        try:
            listing = list_files(sources, labels=False)
        except InputError:
            # Not made yet, as a sample data set, which follows from the code.
            return "", True
        return digest_of_states(listing, self._now)


@cache
def _code() -> str:
    return digest_of_files(LIBRARY)
