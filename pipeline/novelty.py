"""Read features/bottleneck.h5, write the bank and the limit that tell what is unlike training."""

from collections.abc import Sequence
from pathlib import Path

from headstart.commands.params import load_params
from headstart.common.errors import exit_with
from headstart.common.files import write_json
from headstart.evaluation.novelty import MAX_CALIBRATION, evenly, fit
from headstart.evaluation.options import NoveltyOptions
from headstart.features.file import FeatureFile

FEATURES = Path("features/bottleneck.h5")
MODEL = Path("models/novelty.h5")
METRICS = Path("metrics/novelty.json")


def run(file: FeatureFile, options: NoveltyOptions, model: Path, metrics: Path) -> None:
    """Fit and keep the novelty of images, and tell how many ordinary ones it turns away.

    Args:
        file: The features.
        options: The section `novelty`.
        model: The HDF5 file to write.
        metrics: The JSON file to write.
    """
    novelty = fit(file, neighbors=options.neighbors, keep=options.keep)
    novelty.save(model)
    content: dict[str, object] = {
        "threshold": novelty.threshold,
        "neighbors": novelty.neighbors,
        "bank": len(novelty.bank),
    }
    for split in ("validation", "test"):
        rows = evenly(file.rows(split), MAX_CALIBRATION)
        if len(rows):
            kept = novelty.score(file.features[rows]) <= 1
            content[split] = {"images": len(rows), "kept": float(kept.mean())}
    write_json(metrics, content)


def main(arguments: Sequence[str] = ()) -> None:
    """Read params.yaml and run the stage."""
    run(FeatureFile.open(FEATURES), load_params().novelty, MODEL, METRICS)


if __name__ == "__main__":
    exit_with(main)
