"""A source data set in; out comes a backbone trained on it, as weights that extract can name."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from headstart import backbones
from headstart.commands.params import load_params
from headstart.common.errors import InputError, exit_with
from headstart.common.files import sha256_of, write_json
from headstart.pretraining.data import open_source
from headstart.pretraining.options import PretrainOptions

FOLDER = Path("models/pretrained")


def run(name: str, options: PretrainOptions, folder: Path = FOLDER) -> None:
    """Train one backbone and write <name>.weights.h5 and <name>.json, which tells what it is.

    Args:
        name: Of the files.
        options: The run.
        folder: Where they go.

    Raises:
        InputError: backbone, image size or source cannot be used, or training diverged.
    """
    key = f"pretrain.{name}"
    spec = backbones.get(options.backbone)
    size = options.image_size
    image_size = spec.image_size(size if isinstance(size, str | int) else (size[0], size[1]))
    with open_source(key, options, image_size, spec.interpolation, folder) as source:
        # Whatever is wrong with the source is told before TensorFlow is imported.
        from headstart.backbones.loading import save
        from headstart.pretraining.training import pretrain

        trained = pretrain(key, options, spec, image_size, source)
        weights = folder / f"{name}.weights.h5"
        save(trained.backbone, weights)
        card = {
            "backbone": spec.name,
            "objective": options.objective,
            "source": options.source,
            "class_names": list(source.class_names),
            "image_size": list(image_size),
            "preprocessing": spec.preprocessing.as_dict(),
            "preprocessing_digest": spec.preprocessing.digest,
            "images": {
                "train": len(source.train),
                "validation": len(source.validation),
                "unreadable": source.unreadable,
            },
            "scores": trained.scores,
            "best_epoch": trained.best_epoch,
            "history": trained.history,
            "options": options.model_dump(),
            "weights_sha256": sha256_of(weights),
            "versions": {package: version(package) for package in ("keras", "tensorflow")},
        }
    write_json(folder / f"{name}.json", card)


def main(arguments: Sequence[str]) -> None:
    """Pretrain the run that the command line names."""
    runs = load_params().pretrain
    if len(arguments) != 1 or arguments[0] not in runs:
        raise InputError(
            f"pretrain: expected the name of one run of params.yaml "
            f"({', '.join(runs) or 'it has none'}), received {' '.join(arguments) or 'nothing'}"
        )
    (name,) = arguments
    if not name.replace("_", "").replace("-", "").isalnum():
        raise InputError(
            f"pretrain: {name!r} names files, so use letters, digits, '-' and '_' only"
        )
    run(name, runs[name])


if __name__ == "__main__":
    exit_with(main)
