"""From what the pipeline left to what stands on the page."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from headstart.common.files import sha256_of
from headstart.common.progress import notify
from headstart.common.vocabulary import SPLITS
from headstart.dataset.file_states import state_of
from headstart.features.file import FeatureFile
from headstart.heads import load
from headstart.heads.finetuned_card import NAME as FINETUNED
from headstart.report.comparison import comparison_part
from headstart.report.content import DataPart, HeatPart, Picture, Report, ShownLeak
from headstart.report.features import (
    NearestImages,
    SpatialMaps,
    heat_part,
    images_to_explain,
    map_part,
    neighbor_parts,
    numbered,
)
from headstart.report.groups import cluster_images, groups_part, operating_part
from headstart.report.naming import shown_params, shown_source
from headstart.report.options import ReportOptions
from headstart.report.picking import Album, drawn_evenly, pick, samples
from headstart.report.pictures import thumbnails
from headstart.report.results import HeadResults, Results, RunPlaces
from headstart.report.scores import head_part, score_gaps
from headstart.report.steps import steps
from headstart.report.suspects import images_of, look_part, suspected

_MOST_LISTED = 100
"""Rows of the quarantine and pairs of the leak audit that the page lists."""

_SHARE_OF_NEIGHBORS = 0.9

NoHeat = Literal["class_token", "vector"] | None
"""Why there are no heat maps; see `Report.no_heat`."""


def collect(
    places: RunPlaces,
    results: Results,
    options: ReportOptions,
    spatial: SpatialMaps,
    stamp: Mapping[str, str] | None = None,
) -> Report:
    """Fill the page.

    Args:
        places: Where the pipeline left its results.
        results: The same, read.
        options: How much the page may hold.
        spatial: Gives the activations before the pooling, for heat maps; called at most once.
        stamp: What else the head of the page says, by name.
    """
    manifest, file = results.manifest, results.features
    judged = [head.predictions for head in _selected_first(results) if head.predictions is not None]
    suspects, evidence = suspected(results)
    album = pick(
        manifest,
        options.pictures,
        judged,
        images_of(manifest, _leaking_paths(results)).values(),
        cluster_images(results).values(),
        suspects,
        evidence,
    )
    explainer = _explainer(results)
    explained: list[int] = []
    if explainer is not None and explainer.predictions is not None:
        explained = images_to_explain(explainer.predictions, manifest, options.heat_maps)
        album.add(explained)
    everything = drawn_evenly(manifest, manifest.in_use)
    if len(everything) <= options.pictures:
        album.add(everything)
    near = () if file is None else _add_neighbors(file, results, album)
    album.add(everything)
    drawn = None
    heat: HeatPart | NoHeat = None
    with ThreadPoolExecutor(1) as pool:
        if file is not None:
            drawn = pool.submit(map_part, file, album, options.projections, options.seed)
            if explainer is not None:
                heat = _heat(explainer, file, results, album, explained, spatial)
        pictures = _pictures(results, album)
    labels, names = manifest.labels, manifest.class_names
    n_validation = 0 if file is None else len(file.rows("validation"))
    return Report(
        class_names=manifest.class_names,
        pictures=pictures,
        data=_data_part(results, album, options.pictures),
        steps=steps(results),
        heads=tuple(head_part(head, labels, names, album, n_validation) for head in results.heads),
        selected=results.selected,
        by_default=results.test.get("selected", {}).get("selected_by") == "default",
        held_out=results.test.get("selected", {}).get("held_out_images", 0),
        ties=_ties(results),
        gaps=score_gaps(results.heads),
        look=look_part(results, album),
        groups=groups_part(results, album),
        operating=operating_part(results),
        map=None if drawn is None else drawn.result(),
        neighbors=numbered(near, album),
        heat=heat if isinstance(heat, HeatPart) else None,
        no_heat=None if isinstance(heat, HeatPart) else heat,
        comparison=comparison_part(results.comparison, places.comparison),
        used=results.used,
        run=_run(results) | dict(stamp or {}),
        # The one section that no stage reads: its edit does not make the page anew.
        params=shown_params(
            {name: results.params[name] for name in results.params if name != "check"}
        ),
        facts=_facts(places, file, album, len(manifest.in_use)),
    )


def _selected_first(results: Results) -> list[HeadResults]:
    return sorted(results.heads, key=lambda head: head.name != results.selected)


def _explainer(results: Results) -> HeadResults | None:
    """Return the head whose decisions are explained: the best one on the cached features.

    A fine-tuned model has features of its own, which the cache does not hold.
    """
    for head in _selected_first(results):
        if head.predictions is not None and head.name != FINETUNED:
            return head
    return None


def _heat(
    explainer: HeadResults,
    file: FeatureFile,
    results: Results,
    album: Album,
    explained: Sequence[int],
    spatial: SpatialMaps,
) -> HeatPart | NoHeat:
    rows = results.manifest.rows
    # A photo that has gone since leaves nothing to draw on.
    shown = [image for image in explained if image in album and state_of(rows[image].path)]
    if not shown or explainer.predictions is None:
        return None
    activations = spatial(shown)
    if activations is None:
        return "class_token" if file.header.identity.pooling == "cls" else "vector"
    head = load(explainer.folder)
    head.check_features(file.header, file.path)
    return heat_part(
        explainer.name,
        head,
        explainer.predictions,
        results.manifest,
        album,
        dict(zip(shown, activations, strict=True)),
        file,
    )


def _add_neighbors(file: FeatureFile, results: Results, album: Album) -> tuple[NearestImages, ...]:
    found = neighbor_parts(file, results.manifest, album)
    for one in found:
        album.add(one.nearest, _SHARE_OF_NEIGHBORS)
    return found


def _leaking_paths(results: Results) -> list[str]:
    pairs = (results.leaks or [])[:_MOST_LISTED]
    return [path for pair in pairs for path in (pair["path"], pair["other_path"])]


def _pictures(results: Results, album: Album) -> tuple[Picture, ...]:
    manifest = results.manifest
    rows = [manifest.rows[image] for image in album.images]
    small = thumbnails([row.path for row in rows])
    if gone := small.count(""):
        notify(f"warning: {gone} of {len(rows)} photos can no longer be read; the page lacks them")
    return tuple(
        Picture(
            path=results.shown(row.path),
            label=int(manifest.labels[image]),
            split=row.split,
            thumbnail=uri,
            sha256=row.sha256,
        )
        for image, row, uri in zip(album.images, rows, small, strict=True)
    )


def _data_part(results: Results, album: Album, limit: int) -> DataPart:
    manifest = results.manifest
    counts = [[0] * len(SPLITS) for _ in manifest.class_names]
    used = list(manifest.in_use)
    for label, split in zip(manifest.labels[used], manifest.split[used].tolist(), strict=True):
        counts[label][SPLITS.index(split)] += 1
    index = images_of(manifest, _leaking_paths(results))
    leaks = None
    if results.leaks is not None:
        leaks = tuple(
            ShownLeak(
                paths=(results.shown(pair["path"]), results.shown(pair["other_path"])),
                splits=(pair["split"], pair["other_split"]),
                how=pair["kind"],
                pictures=(
                    album.number(index.get(pair["path"], -1)),
                    album.number(index.get(pair["other_path"], -1)),
                ),
            )
            for pair in results.leaks[:_MOST_LISTED]
        )
    return DataPart(
        counts=tuple((row[0], row[1], row[2]) for row in counts),
        samples=tuple(album.numbers(members) for members in samples(manifest, limit)),
        quarantine=tuple(
            (results.shown(row["path"]), row["reason"]) for row in results.quarantine[:_MOST_LISTED]
        ),
        n_quarantine=len(results.quarantine),
        leaks=leaks,
        n_leaks=len(results.leaks or ()),
        duplicates=results.data.get("exact_duplicates"),
        clean=_clean_accuracy(results),
        n_leaked=_n_leaked(results),
    )


def _n_leaked(results: Results) -> int:
    return int(results.test.get("leaks", {}).get("test_images", 0))


def _clean_accuracy(results: Results) -> float | None:
    if not _n_leaked(results) or results.selected is None:
        return None
    clean: dict[str, float] = results.test["selected"].get("without_leaks", {})
    return clean.get("accuracy")


def _ties(results: Results) -> tuple[str, ...]:
    chosen = results.test.get("selected", {})
    return (str(chosen["runner_up"]),) if chosen.get("tie") and "runner_up" in chosen else ()


def _run(results: Results) -> dict[str, str]:
    told = {}
    if source := results.params.get("prepare", {}).get("source"):
        told["source"] = shown_source(source)
    if results.features is not None:
        identity = results.features.header.identity
        weights = Path(identity.weights).name
        told["backbone"] = f"{identity.backbone} ({weights}), {identity.layer}, {identity.pooling}"
    return told


def _facts(
    places: RunPlaces, file: FeatureFile | None, album: Album, n_images: int
) -> dict[str, str]:
    facts = {"manifest_sha256": sha256_of(places.manifest)}
    if file is not None:
        identity = file.header.identity
        facts["features_digest"] = file.digest
        facts["weights_sha256"] = identity.weights_sha256
        facts.update(file.header.versions)
    facts["pictures"] = f"{len(album):,} / {n_images:,}"
    return facts
