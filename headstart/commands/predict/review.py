"""Predictions held against labels as they come: counts, and the photos that a picture shows."""

from collections.abc import Sequence

from headstart.commands.predict.grid import MOST, Shown
from headstart.commands.predict.labels import KnownLabels
from headstart.common import places
from headstart.common.errors import InputError
from headstart.inference.classifier import Prediction
from headstart.scoring.metrics import named as names_in_short

# So many times as many photos are kept as are shown: the more, the more even are the gaps.
_SPARE = 16


class EvenSample:
    """Some of many photos, evenly spaced, though nobody knows beforehand how many will come.

    Args:
        most: How many to give at most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[Shown] = []
        self._step = 1
        self._count = 0

    def add(self, photo: Shown) -> None:
        """Take the next photo; how many are kept does not grow with their number."""
        if self._count % self._step == 0:
            self._kept.append(photo)
            if len(self._kept) == _SPARE * self._most:
                self._kept = self._kept[::2]
                self._step *= 2
        self._count += 1

    def photos(self) -> list[Shown]:
        """Return them, in their order."""
        n = min(len(self._kept), self._most)
        return [self._kept[index * len(self._kept) // n] for index in range(n)]


class Review:
    """Holds predictions against labels.

    Args:
        class_names: One per column of the probabilities.
        labels: Those of the photos.
        mistakes: Whether only photos that are given another class than their label are shown.
    """

    def __init__(self, class_names: Sequence[str], labels: KnownLabels, *, mistakes: bool) -> None:
        self._class_names = class_names
        self._labels = labels
        self._mistakes = mistakes
        self._sample = EvenSample(MOST)
        self._count = self._labelled = self._right = self._wrong = 0

    def add(self, one: Prediction) -> bool:
        """Take the next prediction; return whether it is to be shown."""
        [(name, probability)] = one.top(self._class_names, 1)
        photo = Shown(one.path, name, probability, self._labels.of(one.path), one.abstained)
        self._count += 1
        self._labelled += photo.label is not None
        self._right += photo.right is True
        self._wrong += photo.right is False
        shown = photo.right is False or not self._mistakes
        if shown:
            self._sample.add(photo)
        return shown

    @property
    def photos(self) -> list[Shown]:
        """Photos for the picture, evenly spaced among all that are shown."""
        return self._sample.photos()

    def expect_labels(self) -> None:
        """Make sure that mistakes can be told.

        Raises:
            InputError: they are asked for, and no photo has a known label.
        """
        if self._mistakes and not self._labelled:
            raise InputError(
                f"--mistakes: expected photos that {places.MANIFEST} lists, or whose folder is "
                f"called like a class ({names_in_short(self._class_names)}), received none"
            )

    def told(self) -> str:
        """Return in one line how many are right: "96.7% right: 58 of 60 photos, 2 wrong"."""
        photos = "photo" if self._count == 1 else "photos"
        if not self._labelled:
            return f"{self._count:,} {photos} without a known label"
        which = photos if self._labelled == self._count else "labelled photos"
        text = (
            f"{self._right / self._labelled:.1%} right: {self._right:,} of {self._labelled:,} "
            f"{which}"
        )
        if self._wrong:
            text += f", {self._wrong:,} wrong"
        if left := self._labelled - self._right - self._wrong:
            text += f", {left:,} unlike training"
        if left := self._count - self._labelled:
            text += f"; {left:,} without a known label"
        return text

    def subtitle(self, model: str) -> str:
        """Return what stands below that above a picture.

        Args:
            model: What predicts.
        """
        total, kind = (self._wrong, "mistakes") if self._mistakes else (self._count, "photos")
        fewer = f"; {MOST} of {total:,} {kind}, evenly spaced" if total > MOST else ""
        return f"{model}{fewer}"
