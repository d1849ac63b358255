from pathlib import Path

import pytest

from headstart.report.naming import ShownPaths, shown_params, shown_source


@pytest.mark.parametrize(
    ("paths", "shown"),
    [
        (["/home/kim/pets/cat/1.jpg", "/home/kim/pets/dog/1.jpg"], ["cat/1.jpg", "dog/1.jpg"]),
        (["/home/kim/pets/cat/1.jpg"], ["1.jpg"]),
        # Where the folder that they share is a home folder, or above one.
        (["/home/kim/a/1.jpg", "/home/kim/b/1.jpg"], ["~/a/1.jpg", "~/b/1.jpg"]),
        (["/home/kim/a/1.jpg", "/mnt/b/1.jpg"], ["~/a/1.jpg", "/mnt/b/1.jpg"]),
        (["data/a/1.jpg", "data/b/1.jpg"], ["data/a/1.jpg", "data/b/1.jpg"]),
        (["s3://bucket/a/1.jpg", "/home/kim/pets/1.jpg"], ["s3://bucket/a/1.jpg", "1.jpg"]),
        (["/home/kim/pets/cat/1.jpg", "/home/kim/petshop/1.jpg"],
         ["~/pets/cat/1.jpg", "~/petshop/1.jpg"]),
    ],
)  # fmt: skip
def test_paths_lose_the_folders_they_share(paths: list[str], shown: list[str]) -> None:
    assert list(map(ShownPaths(paths, home=Path("/home/kim")), paths)) == shown


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("/home/kim/pets", "pets"),
        ("~/pets/", "pets"),
        ("data/samples/faces", "data/samples/faces"),
        ("s3://bucket/photos", "s3://bucket/photos"),
        (["/home/kim/a.csv", "b"], "a.csv, b"),
    ],
)
def test_the_data_set_goes_by_its_own_name(source: str | list[str], shown: str) -> None:
    assert shown_source(source) == shown


def test_parameters_keep_their_order_and_lose_folders() -> None:
    params = {
        "prepare": {"source": ["/home/kim/pets", "more"], "seed": 0, "corrections": None},
        "extract": {"weights": "~/w.h5", "crop": 1.0, "text": {"templates": ["a photo of a {}."]}},
    }
    assert shown_params(params) == (
        "prepare:\n  source:\n  - …/pets\n  - more\n  seed: 0\n  corrections: null\n"
        "extract:\n  weights: …/w.h5\n  crop: 1.0\n  text:\n    templates:\n"
        "    - a photo of a {}.\n"
    )
    assert shown_params({}) == ""
