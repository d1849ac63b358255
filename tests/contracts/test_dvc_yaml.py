"""dvc.yaml, params.yaml and the code say the same."""

import importlib
import subprocess
from pathlib import Path

import grimp
import pytest
from ruamel.yaml import YAML

from headstart.commands.params import Params
from headstart.common.params import Section

ROOT = Path(__file__).parents[2]
STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
# Their modules are imported by name at run time (a registry of strings), where no import graph
# sees them, so a stage that reaches the registry depends on the whole folder.
RESOLVED_BY_NAME = ("headstart.backbones", "headstart.extraction.engines", "headstart.heads")


def _body(stage: str) -> dict:
    return STAGES[stage].get("do", STAGES[stage])


def _source_dependencies(stage: str) -> set[str]:
    files = set()
    for dependency in _body(stage)["deps"]:
        if not dependency.startswith("pipeline"):
            continue
        path = ROOT / dependency
        assert path.exists(), f"{stage}: {dependency} does not exist"
        found = path.rglob("*.py") if path.is_dir() else [path]
        files |= {str(file.relative_to(ROOT)) for file in found}
    return files


def _file_of(module: str) -> str:
    return str(Path(importlib.util.find_spec(module).origin).relative_to(ROOT))


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("pipeline", cache_dir=None)


def _closure(graph: grimp.ImportGraph, stage: str) -> set[str]:
    modules = {f"headstart.stages.{stage}", "pipeline", "headstart.stages"}
    while True:
        wider = set(modules)
        for module in modules:
            wider |= graph.find_upstream_modules(module)
            # Importing a.b.c runs a/__init__ and a/b/__init__ too.
            wider |= {module.rsplit(".", n)[0] for n in range(module.count(".") + 1)}
        for package in RESOLVED_BY_NAME:
            if package in wider:
                wider |= graph.find_descendants(package)
        if wider == modules:
            return modules
        modules = wider


@pytest.mark.parametrize("stage", STAGES)
def test_dependencies_are_the_import_closure(graph: grimp.ImportGraph, stage: str) -> None:
    """DVC does not follow imports: an unlisted module could change and nothing would run again."""
    assert _source_dependencies(stage) == {_file_of(module) for module in _closure(graph, stage)}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_a_module_of_its_name(stage: str) -> None:
    assert _body(stage)["cmd"].startswith(f"python -m headstart.stages.{stage}")
    assert (ROOT / "pipeline" / "stages" / f"{stage}.py").is_file()


def test_every_stage_module_is_a_stage() -> None:
    modules = {path.stem for path in (ROOT / "pipeline" / "stages").glob("[!_]*.py")}
    assert modules == set(STAGES)


def test_sections_of_params_yaml_are_the_models() -> None:
    content = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    assert set(content) == set(Params.model_fields)
    for name, field in Params.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            missing = set(field.annotation.model_fields) - set(content[name])
            assert not missing, f"params.yaml does not show {name}.{missing}"


@pytest.mark.parametrize("stage", STAGES)
def test_parameters_of_a_stage_exist(stage: str) -> None:
    content = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    for key in _body(stage).get("params", []):
        section, *rest = key.split(".")
        assert section in content
        if rest and "${" not in rest[0]:
            assert rest[0] in content[section], key


def test_committed_run_is_of_this_code() -> None:
    """`dvc metrics diff` works from the first edit on: the lock is of the committed code."""
    lock = YAML(typ="safe").load((ROOT / "dvc.lock").read_text())["stages"]
    import hashlib

    stale = []
    for name, stage in lock.items():
        for dependency in stage.get("deps", []):
            path = ROOT / dependency["path"]
            if path.suffix == ".py":
                if hashlib.md5(path.read_bytes()).hexdigest() != dependency["md5"]:
                    stale.append(f"{name}: {path.name}")
            elif dependency["path"].startswith("pipeline/"):
                found = subprocess.run(
                    ["git", "ls-files", dependency["path"]],
                    cwd=ROOT,
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout.split()
                assert dependency["nfiles"] == len(found), f"{name}: {dependency['path']}"
    assert not stale, "run `dvc repro` and commit dvc.lock and metrics/"
