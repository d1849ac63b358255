"""`headstart advise` on scikit-image's faces."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headstart.commands import cli
from headstart.commands.params import load_params
from headstart.features.file import FeatureFile
from pipeline import extract, prepare, sample

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder after extract, with params.yaml that says so."""
    root = tmp_path_factory.mktemp("advice")
    text = (ROOT / "params.yaml").read_text()
    text = text.replace("  image_size: auto ", "  image_size: 64   ")
    (root / "params.yaml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        sample.run("faces", Path("data/samples/faces"))
        prepare.main()
        extract.main()
    return root


def test_advice_with_its_evidence(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    text = (project / "params.yaml").read_text()
    assert cli.main(["advise", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    probes = told["evidence"]["probes"]
    assert probes[0]["cut"] == "top_activation"
    assert len(probes) >= 4
    costs = [probe["multiply_adds"] for probe in probes]
    assert costs == sorted(costs, reverse=True)
    assert all(probe["accuracy"] > 0.9 for probe in probes)
    assert told["evidence"]["per_class"] == 60
    assert 0 < told["evidence"]["similarity"]["confidence"] < 1
    # Few images and next to perfect: nothing is unfrozen.
    assert told["recommendation"]["case"].startswith("few images")
    assert told["recommendation"]["strategy"] == "freeze"
    minutes = {cost["strategy"]: cost["minutes"] for cost in told["costs"]}
    assert minutes["freeze"] < minutes["last_block"] < minutes["all"] < minutes["scratch"]
    assert (project / "params.yaml").read_text() == text

    assert cli.main(["advise"]) == 0
    printed = capsys.readouterr().out
    assert "Recommended: keep the backbone frozen" in printed
    assert "block6d_add" in printed


def test_advice_is_applied(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    before = (project / "params.yaml").read_text()
    try:
        assert cli.main(["advise", "--apply"]) == 0
        params = load_params()
        assert params.finetune.unfreeze == "none"
        assert params.train.heads["logistic"].l2 != "auto"
        comment = "# the trained head to start from"
        assert comment in (project / "params.yaml").read_text()
    finally:
        (project / "params.yaml").write_text(before)


def test_the_second_time_needs_no_tensorflow(project: Path) -> None:
    code = (
        "import sys; from headstart.commands import cli; status = cli.main(['advise']); "
        "assert 'tensorflow' not in sys.modules; sys.exit(status)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-c", "from headstart.commands import cli; cli.main(['advise'])"],
        cwd=project,
        env=environment,
        check=True,
    )
    subprocess.run([sys.executable, "-c", code], cwd=project, env=environment, check=True)


def test_test_images_are_not_looked_at(project: Path) -> None:
    from headstart.commands.advise.evidence import _images
    from headstart.dataset.manifest import read_manifest

    file = FeatureFile.open(project / "features/bottleneck.h5")
    manifest = read_manifest(project / "data/manifest.csv")
    params = load_params(project / "params.yaml")
    data, requests = _images(file, manifest, params.train)
    assert len(requests) == len(data.label) == 160
    asked = {request.path for request in requests}
    assert not asked & {row.path for row in manifest if row.split == "test"}
    assert sorted([*data.train, *data.validation]) == list(range(160))


def test_without_features_it_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    assert cli.main(["advise"]) == 1
    assert "no such file: run `dvc repro extract`" in capsys.readouterr().err
