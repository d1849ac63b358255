"""`headstart advise` on scikit-image's faces."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headstart.commands import cli
from headstart.commands.advise import strategies
from headstart.commands.advise.pilots import Pilots
from headstart.configuration.params import load_params
from headstart.features.file import FeatureFile
from pipeline import extract, prepare, sample

ROOT = Path(__file__).parents[2]


def _extracted(root: Path, params: str) -> Path:
    """Run the stages up to extract in a folder, on faces."""
    (root / "params.yaml").write_text(params)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        sample.run("faces", Path("data/samples/faces"))
        prepare.main()
        extract.main()
    return root


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder after extract, with params.yaml that says so."""
    root = tmp_path_factory.mktemp("advice")
    text = (ROOT / "params.yaml").read_text()
    text = text.replace("  image_size: auto ", "  image_size: 64   ")
    return _extracted(root, text)


def test_advice_with_its_evidence(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    text = (project / "params.yaml").read_text()
    assert cli.main(["advise", "--json", "--minutes", "0"]) == 0
    told = json.loads(capsys.readouterr().out)
    probes = told["evidence"]["probes"]
    assert probes[0]["cut"] == "top_activation"
    assert len(probes) >= 4
    costs = [probe["multiply_adds"] for probe in probes]
    assert costs == sorted(costs, reverse=True)
    assert all(probe["accuracy"] > 0.9 for probe in probes)
    assert told["evidence"]["per_class"] == 60
    assert 0 < told["evidence"]["similarity"]["confidence"] < 1
    assert told["recommendation"]["strategy"] == "freeze"
    assert told["pilots"]["tried"] == []
    assert told["pilots"]["ended"]
    minutes = {cost["strategy"]: cost["minutes"] for cost in told["costs"]}
    assert minutes["freeze"] < minutes["last_block"] < minutes["all"]
    assert (project / "params.yaml").read_text() == text

    assert cli.main(["advise", "--minutes", "0"]) == 0
    printed = capsys.readouterr().out
    assert "Recommended: keep the backbone frozen" in printed
    assert "block6d_add" in printed
    # Jargon that decides nothing.
    assert "nats" not in printed
    tables = printed[: printed.index("Points with")]
    assert max(map(len, tables.splitlines())) <= 80


def test_no_name_is_cut_in_a_narrow_terminal(project: Path) -> None:
    code = (
        "import sys; from headstart.commands import cli; sys.stdout.isatty = lambda: True; "
        "cli.main(['advise', '--minutes', '0'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project, env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "40"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "block5a_project_bn" in done.stdout
    assert "points over the last" in done.stdout
    assert "…" not in done.stdout


def test_advice_is_applied(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    before = (project / "params.yaml").read_text()
    try:
        assert cli.main(["advise", "--apply", "--minutes", "0"]) == 0
        params = load_params()
        assert params.finetune.unfreeze == "none"
        assert params.train.heads["logistic"].l2 == "auto"
        comment = "# the trained head to start from"
        assert comment in (project / "params.yaml").read_text()
    finally:
        (project / "params.yaml").write_text(before)


@pytest.fixture(scope="module")
def unlike(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose small backbone has random weights."""
    root = tmp_path_factory.mktemp("unlike")
    text = (ROOT / "params.yaml").read_text()
    for key, given, wanted in (
        ("image_size", "auto ", "32   "),
        ("backbone", "EfficientNetLite0", "LeNet5"),
        ("weights", "pretrained", "random"),
    ):
        assert f"  {key}: {given}" in text
        text = text.replace(f"  {key}: {given}", f"  {key}: {wanted}")
    return _extracted(root, text)


def test_pilots_are_run_within_the_time_and_kept(
    unlike: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(unlike)
    monkeypatch.setattr(strategies, "EPOCHS", (1, 1))
    assert cli.main(["advise", "--json", "--minutes", "60"]) == 0
    first = capsys.readouterr()
    told = json.loads(first.out)
    (tried,) = told["pilots"]["tried"]
    assert tried["arm"]["unfreeze"] == "scratch"
    assert tried["rounds"] >= 1
    # Every image was held out once at most.
    assert tried["images"] <= 160
    assert tried["seconds"] > 0
    assert "scratch up to" in first.err
    assert "min left" in first.err
    won = tried["expected_gain"] >= 0.01
    assert told["recommendation"]["strategy"] == ("scratch" if won else "freeze")

    # Again, though it could go on for long: the same, down to the time.
    monkeypatch.setattr(Pilots, "_run", None)
    assert cli.main(["advise", "--json", "--minutes", "60"]) == 0
    assert json.loads(capsys.readouterr().out) == told


def test_without_time_it_goes_by_frozen_features_and_says_so(
    unlike: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(unlike)
    for minutes, why in (("0", "--minutes 0"), ("0.0001", "no pilot fits into the time")):
        assert cli.main(["advise", "--minutes", minutes]) == 0
        printed = capsys.readouterr().out
        assert why in printed
        assert "there is nothing to keep frozen" in printed
        assert "train the backbone from scratch" in printed
    assert "No time for scratch" in printed


def test_minutes_that_are_none_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for given in ("-1", "nan", "inf", "some"):
        with pytest.raises(SystemExit):
            cli.main(["advise", f"--minutes={given}"])
        assert f"expected minutes, 0 or more; received {given}" in capsys.readouterr().err


def test_the_second_time_needs_no_tensorflow(project: Path) -> None:
    code = (
        "import sys; from headstart.commands import cli; "
        "status = cli.main(['advise', '--minutes', '0']); "
        "assert 'tensorflow' not in sys.modules; sys.exit(status)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [
            sys.executable,
            "-c",
            "from headstart.commands import cli; cli.main(['advise', '--minutes', '0'])",
        ],
        cwd=project,
        env=environment,
        check=True,
    )
    subprocess.run([sys.executable, "-c", code], cwd=project, env=environment, check=True)


def test_test_images_are_not_looked_at(project: Path) -> None:
    from headstart.commands.advise.images import Images
    from headstart.dataset.manifest import read_manifest

    file = FeatureFile.open(project / "features/bottleneck.h5")
    manifest = read_manifest(project / "data/manifest.csv")
    params = load_params(project / "params.yaml")
    images = Images.of(file, manifest, params.extract, params.train)
    data, requests = images.data, images.requests
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
