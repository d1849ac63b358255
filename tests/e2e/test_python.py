"""docs/en/howto/python.md: what it shows is what happens."""

import doctest
import re
from contextlib import chdir
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from headstart.samples import write_sample
from pipeline import evaluate, extract, novelty, prepare, train

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default project, with one head."""
    root = tmp_path_factory.mktemp("faces")
    write_sample("faces", root / "data/samples/faces")
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    params["train"]["heads"] = {"logistic": {}}
    YAML().dump(params, root / "params.yaml")
    with chdir(root):
        for stage in (prepare, extract, train, novelty, evaluate):
            stage.main()
    return root


@pytest.mark.slow
def test_every_example_gives_what_stands_below_it(
    faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(faces)
    text = (ROOT / "docs/en/howto/python.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 6
    examples = doctest.DocTestParser().get_doctest(
        "\n".join(blocks), {}, "docs/en/howto/python.md", "docs/en/howto/python.md", 0
    )
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    complaints: list[str] = []
    runner.run(examples, out=complaints.append)
    assert not runner.failures, "".join(complaints)
