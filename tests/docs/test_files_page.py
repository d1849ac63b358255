"""reference/files.md: every file that a run leaves is told of."""

import re

from ruamel.yaml import YAML

from docs.sandbox import ROOT
from headstart.common import places


def _told(path: str, page: str) -> bool:
    names = re.findall(r"`([^`\s]+)`", page)
    return any(
        path == name or (name.endswith("/") and f"{path}/".startswith(name)) for name in names
    )


def test_it_tells_of_every_output_and_every_place() -> None:
    page = (ROOT / "docs/en/reference/files.md").read_text(encoding="utf-8")
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    paths = {
        str(place) for place in vars(places).values() if isinstance(place, type(places.MANIFEST))
    }
    for stage in stages.values():
        for kind in ("outs", "metrics", "plots"):
            for out in stage.get("do", stage).get(kind, ()):
                paths.add(out if isinstance(out, str) else next(iter(out)))
    plain = {re.sub(r"/\$\{\w+\}", "", path) for path in paths}
    assert [
        path for path in sorted(plain) if not _told(path, page) and not _inside(path, page)
    ] == []


def _inside(path: str, page: str) -> bool:
    """Tell whether a folder's files are told of one by one."""
    return f"`{path}/" in page
