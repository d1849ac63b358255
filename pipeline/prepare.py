"""The user's photos in; out comes the table of usable images, each with its split."""

from headstart.common import places
from headstart.common.params import load_section
from headstart.common.stage import run_stage
from headstart.dataset.options import PrepareOptions
from headstart.dataset.prepared import prepare, write_source_state
from headstart.pretraining.options import SOURCE_KEY, PretrainOptions


def run(options: PrepareOptions) -> None:
    """List, check, compare and split the images of `options.source`."""
    prepare(
        options,
        manifest=places.MANIFEST,
        quarantine=places.QUARANTINE,
        leaks=places.LEAKS,
        corrections=places.CORRECTIONS,
        metrics=places.DATA_METRICS,
    )


def main() -> None:
    """Prepare the photos that params.yaml names, and look at those that only pretraining reads."""
    run(load_section("prepare", PrepareOptions))
    other = load_section("pretrain", PretrainOptions)
    write_source_state(other.source, SOURCE_KEY, other.listings, places.PRETRAIN_STATE)


if __name__ == "__main__":
    run_stage("prepare", main)
