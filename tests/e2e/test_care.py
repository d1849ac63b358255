"""A wrong label is found, looked at in a real browser and corrected, by `dvc repro` alone."""

import csv
import json
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from tests.e2e.browser import click, find, needs_chromium, opened, saved_corrections
from tests.e2e.conftest import Project

pytestmark = [pytest.mark.slow, needs_chromium]

COLORS = {"cold": 2, "warm": 0}
PLANTED = "photos/cold/planted.png"
PER_CLASS = 30


@pytest.fixture(scope="module")
def project(
    make_project: Callable[[str], Project], photo: Callable[[int, int, int], np.ndarray]
) -> Project:
    """Bluish and reddish photos, and a reddish one among the bluish, after one run."""
    project = make_project("care")

    def write(path: str, seed: int, channel: int) -> None:
        pixels = photo(seed, 48, 64) // 4
        pixels[..., channel] += 150
        (project.root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(project.root / path)

    for label, channel in COLORS.items():
        for index in range(PER_CLASS):
            write(f"photos/{label}/{index:02}.png", 100 * channel + index, channel)
    write(PLANTED, 99, COLORS["warm"])
    project.edit(
        prepare__source="photos",
        extract__backbone="LeNet5",
        extract__weights="random",
        train__heads={"logistic": {}},
        audit__suspects=10,
        report__projections=["pca"],
    )
    project.repro()
    return project


def _manifest(project: Project) -> dict[str, dict[str, str]]:
    with (project.root / "data/manifest.csv").open(encoding="utf-8", newline="") as file:
        return {line["path"]: line for line in csv.DictReader(file)}


def _metrics(project: Project, name: str) -> dict:
    return dict(json.loads((project.root / f"metrics/{name}.json").read_text()))


def test_a_wrong_label_is_found_corrected_on_the_page_and_right_from_then_on(
    project: Project, browser: WebDriver
) -> None:
    page = project.root / "report/index.html"
    before = _manifest(project)
    with opened(browser, page):
        assert find(browser, ".suspect figcaption").text == PLANTED, "the worst comes first"
        assert [one.text for one in browser.find_elements(By.CSS_SELECTOR, ".claim strong")] == [
            "cold",
            "warm",
        ]
        click(browser, find(browser, "#look-panel [data-act=relabel]"))
        # The download goes where the page says that it belongs.
        saved_corrections(browser, project.root)
    project.edit(prepare__corrections="corrections.csv")
    project.repro()

    after = _manifest(project)
    assert (after[PLANTED]["label"], after[PLANTED]["given_label"]) == ("warm", "cold")
    assert {path: line["split"] for path, line in after.items()} == {
        path: line["split"] for path, line in before.items()
    }
    assert _metrics(project, "extract")["computed"] == 0
    counts = _metrics(project, "data")["corrections"]
    assert (counts["relabelled"], counts["unused"]) == (1, 0)
    with opened(browser, page):
        click(browser, find(browser, "#look-before summary"))
        line = find(browser, "#look-before tbody tr").text
        assert PLANTED in line
        assert "→ warm" in line
        suspects = browser.find_elements(By.CSS_SELECTOR, "#look-work > .strip .card")
        assert PLANTED not in [one.get_attribute("title") for one in suspects]
        # The next file holds the correction still.
        assert saved_corrections(browser, project.root).count("relabel,warm") == 1
