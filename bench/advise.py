"""Is the advice good? What `headstart advise` recommends against every strategy, on test images.

Usage: python bench/advise.py [--photos FOLDER] [--data faces digits photos] [--dry]

Each strategy runs with the values that the advice would write into params.yaml for it. The test
images decide here, which the advice never sees; a fine-tuned model's gain over the frozen head
that it starts from comes with its paired 95 % interval.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.projects import Project
from bench.results import machine, table, write_section
from headstart.commands.advise.evidence import gather
from headstart.commands.advise.recommendation import EPOCHS, changes_for, recommend
from headstart.extraction.store import FeatureStore

HEADING = "Advice"

IMAGE_SIZE = {"faces": 64, "digits": 64, "photos": 128}
"""Pixels. Faces are 25 x 25 and digits 8 x 8 to begin with; photographs are smaller than usual, so
that training all of the backbone takes minutes and a frozen one leaves something to gain."""

WITHIN = 0.01


def measure(name: str, data: str, scratch: Path) -> tuple[list[list[str]], str]:
    """Run every strategy on a data set; return rows of the table and a line on the advice."""
    size = {"extract.image_size": IMAGE_SIZE[name]}
    base = Project(scratch / name / "base", data, size)
    params = base.params
    evidence = gather(base.file, base.manifest, params.extract, params.train, FeatureStore())
    advice = recommend(evidence)
    tried = [changes_for("freeze", probe, evidence.last) for probe in evidence.probes]
    tried += [
        changes_for(strategy, evidence.probes[0], evidence.last)
        for strategy in EPOCHS
        if strategy != "freeze"
    ]
    assert advice.changes in tried, "the advice is one of the strategies"
    scores: list[tuple[dict[str, Any], float, dict[str, Any] | None]] = []
    for index, changes in enumerate(tried):
        finetuning = {
            key.removeprefix("finetune."): value
            for key, value in changes.items()
            if key.startswith("finetune.")
        }
        others = {key: value for key, value in changes.items() if not key.startswith("finetune.")}
        project = Project(scratch / name / str(index), data, {**size, **others})
        learns = finetuning["unfreeze"] != "none"
        if learns:
            project.finetune(finetuning)
        metrics = project.evaluate()
        model = metrics["finetuned"] if learns else metrics["heads"]["logistic"]
        scores.append((changes, model["accuracy"], model.get("gain")))
        print(name, changes, f"{model['accuracy']:.4f}", flush=True)
    best = max(accuracy for _, accuracy, _ in scores)
    rows = []
    for changes, accuracy, gain in scores:
        unfreeze, cut = changes["finetune.unfreeze"], changes["extract.layer"]
        frozen = f"frozen, features at {'the last layer' if cut == 'auto' else cut}"
        rows.append(
            [
                name,
                frozen if unfreeze == "none" else unfreeze,
                f"{accuracy:.4f}",
                _interval(gain) if gain else "",
                "recommended" if changes == advice.changes else "",
            ]
        )
    chosen = next(accuracy for changes, accuracy, _ in scores if changes == advice.changes)
    line = (
        f"- {name} at {IMAGE_SIZE[name]} px: {advice.case}; "
        f"recommended {chosen:.4f}, best {best:.4f}, "
        f"{'within' if best - chosen <= WITHIN + 1e-9 else 'NOT within'} a point of it. "
        f"{'; '.join(advice.reasons)}."
    )
    return rows, line


def _interval(gain: dict[str, Any]) -> str:
    low, high = gain["interval"]
    return f"{gain['accuracy']:+.4f} ({low:+.4f} to {high:+.4f})"


def main() -> None:
    """Measure all data sets and write the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="photos in class folders")
    parser.add_argument("--data", nargs="+", choices=["faces", "digits", "photos"])
    parser.add_argument("--dry", action="store_true", help="print, do not write RESULTS.md")
    arguments = parser.parse_args()
    names = arguments.data or ["faces", "digits", *(["photos"] if arguments.photos else [])]
    if "photos" in names and arguments.photos is None:
        parser.error("--data photos: expected --photos FOLDER")
    lines = [f"Machine: {machine()}. EfficientNetLite0.", ""]
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            data = str(arguments.photos.absolute()) if name == "photos" else name
            found, line = measure(name, data, Path(folder))
            rows += found
            lines.append(line)
    header = ["data", "strategy", "test accuracy", "gain over the frozen head (95 %)", ""]
    lines += ["", *table(header, rows)]
    print("\n".join(lines))
    if not arguments.dry:
        write_section(HEADING, lines)


if __name__ == "__main__":
    main()
