import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from headstart.commands.project.template import (
    COPIED,
    cached_outputs,
    make_lock,
    stage_bodies,
    stage_packages,
    template_files,
    template_folder,
)
from headstart.common import code
from headstart.common.code import LIBRARY, digest_of_package

ROOT = Path(__file__).parents[4]
REPOSITORY = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())
STAGES = dict(stage_bodies(REPOSITORY))


def generated(*, sample: bool) -> dict:
    return YAML(typ="safe").load(template_files(sample=sample)["dvc.yaml"].decode())


def test_the_template_of_an_editable_installation_is_the_repository() -> None:
    assert template_folder() == ROOT


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_the_repository_s_but_for_the_code(stage: str) -> None:
    body = dict(stage_bodies(generated(sample=True)))[stage]
    own = STAGES[stage]
    assert body["deps"] == [path for path in own["deps"] if not path.startswith("headstart/")]
    locked = {"headstart.lock": [f"stages.{stage}.digest"]}
    assert body["params"] == [*own.get("params", []), locked]
    for key in body.keys() - {"deps", "params"}:
        assert body[key] == own[key]
    assert body.keys() == own.keys() | {"params"}


def test_all_else_of_dvc_yaml_is_the_repository_s() -> None:
    pipeline = generated(sample=True)
    assert list(pipeline["stages"]) == list(REPOSITORY["stages"])
    assert pipeline["stages"]["sample"]["foreach"] == REPOSITORY["stages"]["sample"]["foreach"]
    assert {**pipeline, "stages": ()} == {**REPOSITORY, "stages": ()}


def test_own_photos_need_no_sample() -> None:
    files = template_files(sample=False)
    assert "pipeline/sample.py" not in files
    pipeline = YAML(typ="safe").load(files["dvc.yaml"].decode())
    assert list(pipeline["stages"]) == [name for name in STAGES if name != "sample"]
    assert "sample" not in files["dvc.yaml"].decode()


def test_every_file_that_a_stage_or_a_plot_needs_is_carried() -> None:
    files = template_files(sample=True)
    for stage in STAGES:
        assert files[f"pipeline/{stage}.py"] == (ROOT / "pipeline" / f"{stage}.py").read_bytes()
    templates = {
        options["template"]
        for plot in REPOSITORY["plots"] if isinstance(plot, dict)
        for options in plot.values()
    }  # fmt: skip
    assert {f".dvc/plots/{name}.json" for name in templates} <= files.keys()


def test_outputs_are_kept_out_of_git() -> None:
    ignored = cached_outputs(REPOSITORY)
    assert {"/data/samples/*", "/features/bottleneck.h5", "/models/heads"} <= set(ignored)
    metrics = {pattern for pattern in ignored if "metrics" in pattern}
    assert metrics == {f"/metrics/{name}.json" for name in ("heads", "test", "finetune")}


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the library that may be changed."""
    copy = tmp_path / "headstart"
    shutil.copytree(LIBRARY, copy, ignore=shutil.ignore_patterns("__pycache__", "commands"))
    monkeypatch.setattr(code, "LIBRARY", copy)
    digest_of_package.cache_clear()
    yield copy
    digest_of_package.cache_clear()


@pytest.mark.parametrize(
    "package", sorted({name for names in stage_packages().values() for name in names})
)
def test_a_byte_of_a_package_concerns_the_stages_that_list_it(library: Path, package: str) -> None:
    files = {"dvc.yaml": b""}
    before = make_lock(files)
    path = library / package
    if path.is_dir():
        path = sorted(path.rglob("*.py"))[-1]
    path.write_bytes(path.read_bytes() + b"#")
    digest_of_package.cache_clear()
    after = make_lock(files)
    changed = {name for name in before.stages if before.stages[name] != after.stages[name]}
    assert changed == {name for name, names in stage_packages().items() if package in names}
    assert {name for name in before.packages if before.packages[name] != after.packages[name]} == {
        package
    }


def test_the_wheel_is_told_to_carry_the_template() -> None:
    import tomllib

    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"][
        "targets"
    ]
    carried = build["wheel"]["force-include"]
    for pattern in (*COPIED, "dvc.yaml", "params.yaml"):
        folder = str(Path(pattern).parent) if "*" in pattern else pattern
        assert carried[folder] == f"headstart/template/{folder}"
        assert f"/{folder}" in build["sdist"]["include"]
