"""Which classes have images in which split, and what follows where units are too few.

A unit is what no split and no fold tears apart: images that belong together (equal files, near
duplicates, a group of the source), or an image that stands alone. Twenty shots of one burst are one
unit, and as good as one image where something has to be held out.
"""

from collections import Counter
from collections.abc import Sequence

from headstart.common.errors import InputError
from headstart.common.progress import notify
from headstart.common.text import counted
from headstart.common.vocabulary import SPLITS
from headstart.dataset.manifest import ManifestRow
from headstart.dataset.options import PrepareOptions

_TOLD = 5
_TOGETHER = "images that belong together count once"
_UNTESTED = "test scores say nothing about it"
_UNJUDGED = "validation scores say nothing about it, nor does what they choose"
_FOLDED = "settings are chosen by cross-validation"


def units_per_class(rows: Sequence[ManifestRow]) -> Counter[str]:
    """Count the units that hold images of each class."""
    return Counter(label for label, _ in {(row.label, row.group or row.path) for row in rows})


def check_coverage(rows: Sequence[ManifestRow], options: PrepareOptions) -> None:
    """Warn of what the splits leave out of the scores, class by class.

    Args:
        rows: The images, with their splits.
        options: The source, and the shares that were asked for.

    Raises:
        InputError: all images are one unit.
    """
    _check_units(rows, options)
    images, units = Counter(row.label for row in rows), units_per_class(rows)
    found = {(row.label, row.split) for row in rows}
    held_out = {split for _, split in found}
    wanted = {"validation": options.validation, "test": options.test}
    asked = [split for split in SPLITS[1:] if wanted[split] > 0 or split in held_out]
    if "test" in asked and "test" not in held_out:
        notify(
            "warning: no class has a test image: of each there is one unit to train or to test on "
            f"({_TOGETHER}), which must train. There will be no test scores. Raising prepare.test "
            "cannot help; more images or groups per class can"
        )
        asked.remove("test")
        if "validation" not in held_out:
            return
    learned = units_per_class([row for row in rows if row.split != "test"])
    lines = []
    for label in sorted(units):
        missing = [split for split in asked if (label, split) not in found]
        unjudged = _FOLDED if learned[label] > 1 else _UNJUDGED
        follows = [_UNTESTED if split == "test" else unjudged for split in missing]
        if missing:
            lines.append(
                f"warning: class {label!r} has {counted(images[label], 'image')} in "
                f"{counted(units[label], 'unit')} ({_TOGETHER}), none for {' and '.join(missing)}: "
                f"{'; '.join(follows)}"
            )
    for line in lines[:_TOLD]:
        notify(line)
    if len(lines) > _TOLD:
        notify(
            f"warning: {len(lines) - _TOLD} more classes are too small for every split; "
            "metrics/data.json has the images and units of each"
        )


def _check_units(rows: Sequence[ManifestRow], options: PrepareOptions) -> None:
    name, *others = {row.group or row.path for row in rows}
    if others:
        return
    # As `preparation` names a set of images that no group of the source holds together.
    if name == f"same-{min(row.sha256 for row in rows)[:16]}":
        what = f"show one picture, as {rows[0].path} does"
        remedy = (
            "Add images of other pictures"
            if options.near_duplicates == "keep"
            else "Add images of other pictures, or set prepare.near_duplicates to keep if these "
            "differ in what matters"
        )
    else:
        what = f"belong to one group, {name!r}"
        remedy = "Name several groups in its column group, or leave the column out"
    raise InputError(
        f"prepare.source: all {len(rows)} images of {options.named_source} {what}. Expected two or "
        "more units that can be split, of which one trains and another is held out, received one. "
        f"{remedy}."
    )
