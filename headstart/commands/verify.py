"""`headstart verify`: read every photo of the table of images again and compare its content."""

import argparse

from headstart.common import places
from headstart.common.text import printable
from headstart.dataset.manifest import read_manifest
from headstart.dataset.verifying import changed_photos, forget


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        f"`dvc repro` reads a photo of {places.MANIFEST} again only where its size, times or inode "
        "have changed. This reads all of them, lists those with another content or none, and "
        "forgets what was found of them, so that the next `dvc repro` checks them anew. The exit "
        "status is 1 where there is one."
    )


def run(args: argparse.Namespace) -> int:
    """Compare all photos with the table, and list those that differ.

    Raises:
        InputError: there is no table of images, or it is damaged.
    """
    manifest = read_manifest(places.MANIFEST)
    changed = changed_photos(manifest)
    for one in changed:
        print(f"{printable(one.path)}: {one.problem}")
    if not changed:
        print(f"{len(manifest):,} images: all as they were when they were prepared")
        return 0
    forget(changed)
    print(f"{len(changed):,} of {len(manifest):,} images: `dvc repro` checks them anew")
    return 1
