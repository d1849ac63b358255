"""The user's photos in; out comes the table of usable images, each with its split."""

from headstart.common import places
from headstart.common.stage import run_stage
from headstart.configuration.checking import check_names, check_sections
from headstart.configuration.params import load_params
from headstart.dataset.options import PrepareOptions
from headstart.dataset.prepared import prepare, write_source_state
from headstart.pretraining.options import SOURCE_KEY


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
    """Prepare the photos that params.yaml names, and look at those that only pretraining reads.

    Here, in the stage that runs each time, the whole of params.yaml is checked, so that a mistake
    of a later stage's section is not told after hours.
    """
    params = load_params()
    check_sections(params)
    run(params.prepare)
    check_names(params, places.MANIFEST)
    other = params.pretrain
    write_source_state(other.source, SOURCE_KEY, other.listings, places.PRETRAIN_STATE)


if __name__ == "__main__":
    run_stage("prepare", main)
