"""The whole pipeline on photos in an object store."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Project
from tests.object_store import environment, object_store

pytestmark = pytest.mark.slow


def test_dvc_repro_on_a_bucket(make_project: Callable[[str], Project], photo_folder: Path) -> None:
    project = make_project("bucket")
    with object_store() as store:
        project.environment.update(environment(store))
        url = store.put_folder(photo_folder, "photos")
        project.edit(
            prepare__source=url,
            extract__backbone="LeNet5",
            extract__weights="random",
            train__heads={"logistic": {}},
        )
        assert {"extract", "train", "evaluate", "report"} <= set(project.repro())
        manifest = (project.root / "data/manifest.csv").read_text()
        assert manifest.count(url) == 40
        page = (project.root / "report/index.html").read_text()
        assert "data:image/webp;base64," in page
        assert url in page

        store.requests.clear()
        assert project.repro() == []
        assert store.requests == {"LIST": 1}
        shared = f"{url.rpartition('/')[0]}/shared"
        said = project.run("headstart", "cache", "push", shared).stdout
        assert "1 shard pushed" in said
