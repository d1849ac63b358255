"""A finished run to report on: real files, written by the parts that write them."""

import dataclasses
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

from headstart.audit.table import Evidence, Suspect, write_audit
from headstart.common.files import digest_of, read_json, sha256_of, write_json, write_table
from headstart.dataset.manifest import Manifest, ManifestRow, read_manifest, write_manifest
from headstart.features.file import Columns, FeatureFile, Header, write_feature_file
from headstart.images.decoding import decode
from headstart.scoring.weakness import Comparison
from pipeline import evaluate, train
from tests.feature_files import make_identity

ROOT = Path(__file__).parents[1]
GRID = 4
RULE = {"channel_order": "rgb", "divisor": 1.0, "mean": [0.0] * 3, "std": [1.0] * 3}
IDENTITY = make_identity(layer="auto", preprocessing_digest=digest_of(RULE), engine="tensorflow")
HEADS = {"logistic": {"kind": "logistic"}, "prototype": {"kind": "prototype"}}

COMPARISON = {
    "schema": 1,
    "test_images": 8,
    "method": "paired interval",
    "winner": "big <b>",
    "candidates": [
        {
            "label": label,
            "experiment": "one",
            "overrides": {},
            "head": "ridge",
            "validation_accuracy": 0.9,
            "validation_log_loss": 0.3,
            "accuracy": accuracy,
            "interval": [accuracy - 0.1, 1.0] if on_front else None,
            "milliseconds": milliseconds,
            "multiply_adds": 400_000_000,
            "parameters": 5_000_000,
            "megabytes": 18.8,
            "computed": 40,
            "seconds": 3.0,
            "on_front": on_front,
            "against_winner": standing,
        }
        for label, accuracy, milliseconds, on_front, standing in (
            ("big <b>", 0.95, 12.0, True, "winner"),
            ("small", 0.9, 3.0, True, "tie"),
            ("slow", 0.85, 20.0, False, "worse"),
        )
    ],
    "dropped": [
        {"label": "tiny", "share": 0.1, "validation_accuracy": 0.6, "validation_log_loss": 0.7}
    ],
    "failed": ["broken"],
    "forward_passes": {"computed": 84, "without_budget": 160},
}


def spatial(path: Path) -> np.ndarray:
    """Describe a photo by what colors it has where: (GRID, GRID, 6) float32."""
    image = Image.fromarray(decode(path.read_bytes())).resize((GRID, GRID), Image.Resampling.BOX)
    colors = np.asarray(image, np.float32) / 255
    return np.concatenate([colors, np.maximum(colors - 0.5, 0)], axis=2)


def write_photos(root: Path, names: Sequence[str], per_class: int, spread: float) -> Manifest:
    """Write photos whose brightest corner has their class's color, more or less."""
    rng = np.random.default_rng(7)
    rows = []
    for label, name in enumerate(names):
        color = 0.5 + 0.5 * np.cos(2 * np.pi * (label / len(names) + np.array([0, 1 / 3, 2 / 3])))
        folder = root / "photos" / f"{label:03}"
        folder.mkdir(parents=True)
        for index in range(per_class):
            pixels = rng.uniform(0, 0.35, (6, 8, 3))
            pixels[:3, :4] += 0.6 * np.clip(color + rng.normal(0, spread, 3), 0, 1)
            photo = Image.fromarray((255 * np.clip(pixels, 0, 1)).astype(np.uint8))
            path = folder / (f'{index:03} <b>"&.jpg' if index == 0 else f"{index:03}.jpg")
            photo.resize((160, 120), Image.Resampling.BICUBIC).save(path, quality=90)
            # One image of a class is all there may be: it belongs to the training split.
            split = ("train", "train", "test", "validation")[index % 4]
            relative = path.relative_to(root).as_posix()
            rows.append(ManifestRow(relative, sha256_of(path), name, split, "", 160, 120))
    return Manifest(rows)


def write_features(manifest: Manifest, path: Path, *, pooling: str = "avg") -> FeatureFile:
    maps = np.stack([spatial(Path(row.path)) for row in manifest])
    features = {"avg": maps.mean(axis=(1, 2)), "max": maps.max(axis=(1, 2)), "none": maps}[pooling]
    identity = dataclasses.replace(IDENTITY, pooling=pooling)
    header = Header(
        class_names=manifest.class_names,
        identity=identity,
        feature_shape=features.shape[1:],
        preprocessing=RULE,
        augment=None,
        versions={"numpy": np.__version__},
    )
    columns = Columns(
        label=manifest.labels,
        split=np.array([row.split for row in manifest]),
        sha256=np.array([row.sha256 for row in manifest]),
        view=np.zeros(len(manifest), np.int32),
        group=manifest.groups,
        image=np.arange(len(manifest)),
    )
    write_feature_file(path, header, columns, features)
    return FeatureFile.open(path)


def write_params(heads: dict[str, dict]) -> None:
    """Write params.yaml: the one of the project, with these heads."""
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["train"] |= {"heads": heads, "min_validation": 1}
    yaml.dump(params, Path("params.yaml"))


def finish_run(
    root: Path,
    names: Sequence[str] = ("cat", "dog"),
    *,
    per_class: int = 24,
    spread: float = 0.25,
    heads: dict[str, dict] = HEADS,
    pooling: str = "avg",
) -> None:
    """Leave in `root` what a run of the pipeline leaves."""
    with chdir(root):
        manifest = write_photos(Path(), names, per_class, spread)
        write_manifest(Path("data/manifest.csv"), manifest)
        write_table(Path("data/quarantine.csv"), ("path", "reason"), [("photos/bad<1>.jpg", "cut")])
        leak = [field for row in manifest.rows[:2] for field in (row.path, row.split, row.label)]
        columns = ("path", "split", "label", "other_path", "other_split", "other_label")
        write_table(
            Path("data/leaks.csv"), (*columns, "kind", "similarity"), [(*leak, "near", "0.990")]
        )
        write_json(Path("plots/comparison.json"), COMPARISON)
        write_json(Path("metrics/extract.json"), {"computed": 5, "reused": len(manifest) - 5})
        write_features(manifest, Path("features/bottleneck.h5"), pooling=pooling)
        write_params(heads)
        train.main()
        evaluate.main()


def take_care(root: Path, n_labels: int = 6) -> None:
    """Add what the care of the data leaves: suspects, corrections, groups, operating points.

    Args:
        root: Of a finished run.
        n_labels: How many labels are suspected.
    """
    with chdir(root):
        manifest = read_manifest(Path("data/manifest.csv"))
        rows, names = manifest.rows, manifest.class_names
        following = dict(zip(names, (*names[1:], names[0]), strict=True))
        suspects, evidence = [], []
        for number, row in enumerate(rows[:: max(1, len(rows) // n_labels)][:n_labels]):
            other = following[row.label]
            score = 0.99 - 0.05 * number
            suspects.append(Suspect(row.sha256, row.path, "label", score, row.label, other))
            for role, label in (("given", row.label), ("suggested", other)):
                near = [one for one in rows if one.label == label and one != row][:3]
                evidence += [Evidence(row.sha256, role, one.path, label, 0.9) for one in near]
        if suspects:
            first, last = rows[1], rows[-1]
            suspects += [
                Suspect(first.sha256, first.path, "conflict", 1, first.label, last.label),
                Suspect(last.sha256, last.path, "outlier", 0.75, last.label, ""),
                Suspect("", "", "merge", 0.4, names[0], names[1]),
                Suspect("", "", "few", 0.2, names[-1], ""),
            ]
            evidence.append(Evidence(first.sha256, "copy", last.path, last.label, 0.99))
        write_audit(suspects, evidence, Path("data/audit.csv"), Path("data/audit_neighbors.csv"))
        write_json(Path("metrics/audit.json"), {"label": n_labels})
        kept, moved = rows[2], rows[3]
        write_table(
            Path("data/corrections.csv"),
            ("sha256", "action", "label", "note"),
            [
                (kept.sha256, "keep", "", 'seen, "fine"'),
                (moved.sha256, "relabel", names[-1], ""),
                ("0" * 64, "drop", "", "=1+1"),
            ],
        )
        write_json(
            Path("metrics/data.json"),
            {"corrections": {"kept": 1, "relabelled": 1, "dropped": 1, "unused": 0}},
        )
        test = read_json(Path("metrics/test.json"))
        chosen = test["selected"]
        score = Comparison(9, 0.5, [0.2, 0.8], 0.9, -0.4, -0.6, -0.2, -0.35, 0.002).told(p=0.004)
        chosen["slices"] = {
            "camera <b>": {
                "good": score | {"difference": 0.1, "low": -0.05, "high": 0.2, "p": 1, "weak": 0},
                "<i>poor</i>": score | {"weak": 1},
            }
        }
        chosen["slices_left_out"] = {
            "camera <b>": {"too_few": 3, "too_many": 0, "without_value": 2}
        }
        chosen["weak_clusters"] = {"1": score}
        chosen["coverage"] = {
            "wanted": 0.9, "covered": 0.925, "low": 0.8, "high": 0.98, "set_size": 1.25,
        }  # fmt: skip
        chosen["decisions"] = {
            "cost": 0.3, "cost_of_likeliest": 0.5, "low": 0.1, "high": 0.4, "abstained": 0.1,
        }  # fmt: skip
        less = {"images": 25, "accuracy": 0.5, "balanced_accuracy": 0.5, "macro_f1": 0.5}
        test["heads"][chosen["head"]]["uncorrected"] = less | {"log_loss": 0.75}
        write_json(Path("metrics/test.json"), test)
        tested = [row for row in rows if row.split == "test"][:5]
        write_table(
            Path("data/weak_clusters.csv"),
            ("cluster", "path", "label", "named", "probability"),
            [("1", row.path, row.label, names[0], 0.9) for row in tested],
        )
