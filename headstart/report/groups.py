"""Parts of the test images and operating points of the selected model, for the page."""

from collections.abc import Iterable, Mapping
from typing import Any

from headstart.report.care import GroupsPart, OperatingPart, ShownGroup
from headstart.report.picking import Album
from headstart.report.results import Results
from headstart.report.suspects import images_of

COVERAGE = ("wanted", "covered", "set_size", "one_class")
DECISIONS = ("cost", "cost_of_likeliest", "held_out_cost", "abstained", "errors_among_named")
"""What is shown of the blocks of metrics/test.json, in this order."""

MOST_OF_A_CLUSTER = 12
"""Pictures of a cluster that are shown."""


def cluster_images(results: Results) -> dict[str, list[int]]:
    """Return the images of each weak cluster, those nearest to its middle first."""
    members: dict[str, list[str]] = {}
    for row in results.weak_clusters:
        members.setdefault(row["cluster"], []).append(row["path"])
    index = images_of(results.manifest, (path for paths in members.values() for path in paths))
    return {
        name: [index[path] for path in paths if path in index][:MOST_OF_A_CLUSTER]
        for name, paths in members.items()
    }


def groups_part(results: Results, album: Album) -> GroupsPart | None:
    """Show how the selected model does on parts of the test images; None without any.

    Args:
        results: Of the run.
        album: The images that have a picture.
    """
    chosen = results.test.get("selected", {})
    slices, clusters = chosen.get("slices") or {}, chosen.get("weak_clusters") or {}
    if not slices and not clusters:
        return None
    images = cluster_images(results)
    return GroupsPart(
        slices={
            column: tuple(_worst_first(_group(value, score) for value, score in values.items()))
            for column, values in slices.items()
        },
        left_out={
            column: {name: int(count) for name, count in counts.items() if count}
            for column, counts in (chosen.get("slices_left_out") or {}).items()
        },
        clusters=tuple(
            _group(name, score, weak=True, pictures=album.numbers(images.get(name, ())))
            for name, score in clusters.items()
        ),
    )


def _group(
    name: str,
    score: Mapping[str, Any],
    *,
    weak: bool | None = None,
    pictures: tuple[int, ...] = (),
) -> ShownGroup:
    return ShownGroup(
        name=name,
        images=int(score["images"]),
        accuracy=score["accuracy"],
        rest=score["rest"],
        difference=score["difference"],
        low=score["low"],
        high=score["high"],
        within_classes=score["difference_within_classes"],
        p=score["p"],
        weak=bool(score.get("weak")) if weak is None else weak,
        pictures=pictures,
    )


def _worst_first(groups: Iterable[ShownGroup]) -> list[ShownGroup]:
    return sorted(groups, key=lambda group: (not group.weak, group.difference))


def operating_part(results: Results) -> OperatingPart | None:
    """Show what the selected model's sets of classes hold and its decisions cost, if anything."""
    chosen = results.test.get("selected", {})
    coverage = _measured(chosen.get("coverage") or {}, COVERAGE)
    decisions = _measured(chosen.get("decisions") or {}, DECISIONS)
    if not coverage and not decisions:
        return None
    return OperatingPart(coverage=coverage, decisions=decisions)


def _measured(
    content: Mapping[str, Any], names: tuple[str, ...]
) -> dict[str, tuple[float, float | None, float | None]]:
    """Return the values that are there, the one that `low` and `high` belong to with them."""
    return {
        name: (content[name], content.get("low"), content.get("high"))
        if name in ("covered", "cost")
        else (content[name], None, None)
        for name in names
        if content.get(name) is not None
    }
