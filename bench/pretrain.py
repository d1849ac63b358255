"""Train the backbones that have no published weights, and transfer one of them.

Usage: python bench/pretrain.py [--photos FOLDER] [networks|transfer]

`networks` trains each from random weights: on digits, and as an autoencoder on photographs if
there are any. `transfer` trains LeNet5 on the digits 0 to 4 and reads 5 to 9 from a handful of
labels per class; the same classifier gets the features of random weights, and the raw pixels.
The way of training and the cut were chosen the other way round, from 5 to 9 to 0 to 4.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.projects import changed_params
from bench.results import machine, table, write_section
from headstart.common.cache import Keep
from headstart.common.files import read_json, sha256_of
from headstart.extraction import engines
from headstart.extraction.bottleneck import identify
from headstart.extraction.extract import extract
from headstart.extraction.requests import Request
from headstart.extraction.store import FeatureStore
from headstart.pretraining.options import PretrainOptions, PretrainRun
from headstart.pretraining.runs import pretrain_runs
from headstart.samples import write_sample

SOURCE, TARGET = ("0", "1", "2", "3", "4"), ("5", "6", "7", "8", "9")
# Learning to read what is turned, moved, zoomed and sheared is what transfers.
AUGMENT = {"rotation": 25, "shift": 0.15, "zoom": 0.2, "shear": 20}
EPOCHS = 100
LAYER = "s4"
LABELS = (1, 3, 5, 10, 20)
DRAWS = 200
RESAMPLES = 10_000

SIDES = {"LeNet5": 32, "AlexNet": 67, "GoogLeNet": 48, "UNet": 32}
RECONSTRUCTED = {"LeNet5": 32, "UNet": 32}


def train(name: str, source: Path, folder: Path, **options: Any) -> dict[str, Any]:
    """Train one run into a folder of its own; return its card, and the seconds it took."""
    runs = {name: PretrainRun(seed=0, **options)}
    # What an earlier benchmark kept would be taken over in no time.
    keep = Keep("pretrained", folder / "kept")
    started = time.perf_counter()
    pretrain_runs(PretrainOptions(source=str(source), runs=runs), folder / name, keep)
    seconds = time.perf_counter() - started
    return {**read_json(folder / name / f"{name}.json"), "seconds": seconds}


def networks(digits: Path, photos: Path | None, scratch: Path) -> list[str]:
    """Train each network once; return the section's lines."""
    rows = []
    for backbone, side in SIDES.items():
        card = train(
            backbone, digits, scratch, backbone=backbone, image_size=side, epochs=8, batch_size=64,
        )  # fmt: skip
        scores = card["scores"]
        rows.append([
            backbone, "classify digits", side, card["images"]["train"],
            f"accuracy {scores['accuracy']:.3f}", f"{scores['chance_accuracy']:.3f}",
            f"{card['seconds']:.0f}",
        ])  # fmt: skip
    for backbone, side in RECONSTRUCTED.items() if photos else ():
        card = train(
            f"{backbone}_again", photos, scratch, backbone=backbone, image_size=side,
            objective="reconstruct", epochs=8,
        )  # fmt: skip
        (name, score), (_, chance) = list(card["scores"].items())[:2]
        rows.append([
            backbone, "reconstruct photos", side, card["images"]["train"],
            f"{name.replace('_', ' ')} {score:.4f}", f"{chance:.4f}", f"{card['seconds']:.0f}",
        ])  # fmt: skip
    header = ["backbone", "objective", "pixels", "images", "on held-out images", "chance", "s"]
    return ["Eight epochs from random weights.", "", *table(header, rows)]


def features(weights: str, paths: Sequence[Path], labels: np.ndarray) -> np.ndarray:
    """Return the maps of LeNet5 at the cut, flattened: (n, d)."""
    options = changed_params({
        "extract.backbone": "LeNet5", "extract.weights": weights, "extract.layer": LAYER,
        "extract.pooling": "none", "extract.image_size": 32,
    }).extract  # fmt: skip
    bottleneck = identify(options, engines.resolve("auto", "float32"))
    requests = [Request(str(path), sha256_of(path)) for path in paths]
    maps = extract(bottleneck, requests, store=FeatureStore()).array()
    return np.asarray(maps).reshape(len(labels), -1)


def pixels(paths: Sequence[Path]) -> np.ndarray:
    """Return the images as LeNet5 sees them, flattened: (n, 1024)."""
    images = [Image.open(path).convert("L").resize((32, 32), Image.BICUBIC) for path in paths]
    return np.stack([np.asarray(image, np.float32).ravel() for image in images])


def accuracies(inputs: dict[str, np.ndarray], labels: np.ndarray, shots: int) -> np.ndarray:
    """Return the accuracy per draw of labeled images and input: (DRAWS, n_inputs)."""
    rng = np.random.default_rng(shots)
    scores = np.empty((DRAWS, len(inputs)))
    for draw in range(DRAWS):
        known = np.concatenate([
            rng.choice(np.flatnonzero(labels == label), shots, replace=False)
            for label in np.unique(labels)
        ])  # fmt: skip
        rest = np.setdiff1d(np.arange(len(labels)), known)
        for column, x in enumerate(inputs.values()):
            head = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
            scores[draw, column] = (
                head.fit(x[known], labels[known]).score(x[rest], labels[rest])
            )  # fmt: skip
    return scores


def interval(differences: np.ndarray) -> str:
    """Return the mean and its 95 % bootstrap interval over draws."""
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(differences), size=(RESAMPLES, len(differences)))
    low, high = np.quantile(differences[chosen].mean(axis=1), (0.025, 0.975))
    return f"{differences.mean():+.4f} ({low:+.4f} to {high:+.4f})"


def transfer(digits: Path, scratch: Path) -> list[str]:
    """Pretrain, transfer, compare; return the section's lines."""
    card = train(
        "lenet", digits, scratch, backbone="LeNet5", classes=list(SOURCE), epochs=EPOCHS,
        patience=EPOCHS, augment=AUGMENT,
    )  # fmt: skip
    paths = [path for label in TARGET for path in sorted((digits / label).iterdir())]
    labels = np.array([int(path.parent.name) for path in paths])
    inputs = {
        "pretrained": features(str(scratch / "lenet" / "lenet.weights.h5"), paths, labels),
        "random weights": features("random", paths, labels),
        "raw pixels": pixels(paths),
    }
    rows = []
    for shots in LABELS:
        scores = accuracies(inputs, labels, shots)
        rows.append(
            [shots]
            + [f"{score:.4f}" for score in scores.mean(axis=0)]
            + [interval(scores[:, 0] - scores[:, other]) for other in (1, 2)]
        )
    header = ["labels per class", *inputs, "gain over random (95 %)", "gain over raw (95 %)"]
    return [
        f"LeNet5 learns the digits 0 to 4 (held-out accuracy {card['scores']['accuracy']:.3f}, "
        f"{card['seconds']:.0f} s); a logistic regression reads 5 to 9 from its maps at {LAYER}. "
        f"Mean accuracy over {DRAWS} draws of the labeled images, on all others.",
        "",
        *table(header, rows),
    ]


def main() -> None:
    """Run the part that is named, or both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="?", choices=["networks", "transfer"])
    parser.add_argument("--photos", type=Path, help="folder with one sub-folder per class")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        digits = scratch / "digits"
        write_sample("digits", digits)
        for part in [arguments.part] if arguments.part else ["transfer", "networks"]:
            lines = [f"Machine: {machine()}.", ""]
            if part == "transfer":
                heading, lines = "Pretraining: transfer", lines + transfer(digits, scratch)
            else:
                heading = "Pretraining: networks"
                lines += networks(digits, arguments.photos, scratch)
            write_section(heading, lines)
            print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
