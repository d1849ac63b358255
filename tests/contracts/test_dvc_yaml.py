"""dvc.yaml, params.yaml, the hand-over paths and the code say the same."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import grimp
import pytest
from ruamel.yaml import YAML

from headstart.common import places
from headstart.common.params import Section
from headstart.configuration.params import Params

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "dvc.yaml").read_text()
STAGES = YAML(typ="safe").load(TEXT)["stages"]
CODE = ("headstart", "pipeline")
# Its names are imported when they are asked for, and nothing in the library asks.
FACADE = "headstart"


def _body(stage: str) -> dict:
    return STAGES[stage].get("do", STAGES[stage])


def _code_of(stage: str) -> list[str]:
    return [path for path in _body(stage)["deps"] if path.split("/")[0] in CODE]


def _file_of(module: str) -> str:
    origin = importlib.util.find_spec(module).origin
    return str(Path(origin).relative_to(ROOT))


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*CODE, cache_dir=None, exclude_type_checking_imports=True)


def _closure(graph: grimp.ImportGraph, stage: str) -> set[str]:
    """Return the modules that the stage runs; importing a.b.c runs a and a.b, too."""
    found: set[str] = set()
    pending = [f"pipeline.{stage}"]
    while pending:
        module = pending.pop()
        if module in found:
            continue
        found.add(module)
        pending += [module.rsplit(".", n)[0] for n in range(1, module.count(".") + 1)]
        if module != FACADE:
            pending += graph.find_modules_directly_imported_by(module)
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_dependencies_hold_the_import_closure_and_no_folder_more(
    graph: grimp.ImportGraph, stage: str
) -> None:
    """DVC does not follow imports: an unlisted module could change and nothing would run again."""
    # The packages' own files decide nothing of what comes out: a facade, and how Ctrl-C is told.
    run = {_file_of(module) for module in _closure(graph, stage) - set(CODE)}
    listed = _code_of(stage)
    for path in listed:
        assert (ROOT / path).exists(), f"{stage}: {path} does not exist"
    covered = {
        path: {file for file in run if file == path or file.startswith(f"{path}/")}
        for path in listed
    }
    assert run - set().union(*covered.values()) == set(), f"{stage}: not listed"
    assert [path for path, files in covered.items() if not files] == [], f"{stage}: not run"


def test_nothing_in_the_library_imports_from_its_facade(graph: grimp.ImportGraph) -> None:
    """So that following the facade's own imports is not needed above."""
    for importer in graph.find_modules_that_directly_import(FACADE):
        for found in graph.get_import_details(importer=importer, imported=FACADE):
            assert re.fullmatch(
                r"from headstart import \w+( as \w+)?|import headstart",
                (found["line_contents"].strip()),
            ), found
            name = found["line_contents"].split()[-1]
            assert importlib.util.find_spec(f"headstart.{name}") is not None, found


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_a_file_of_its_name(stage: str) -> None:
    command = f"python -m pipeline.{stage}"
    assert _body(stage)["cmd"] == (f"{command} ${{item}}" if stage == "sample" else command)
    assert (ROOT / "pipeline" / f"{stage}.py").is_file()


def test_every_file_of_the_pipeline_is_a_stage() -> None:
    assert {path.stem for path in (ROOT / "pipeline").glob("[!_]*.py")} == set(STAGES)


def test_a_stage_reads_its_own_section_only() -> None:
    # But for what train has to know to set one head aside, and the page, which shows them all.
    before = [stage for stage in STAGES if stage not in ("sample", "report")]
    more = {"train": ["finetune.head", "finetune.unfreeze"], "report": before}
    for stage in STAGES:
        own = [] if stage == "sample" else [stage]
        assert set(_body(stage).get("params", [])) == {*own, *more.get(stage, [])}


def test_no_name_that_a_user_chose_stands_in_a_path_or_a_command() -> None:
    used = set(re.findall(r"\$\{[^}]*\}", TEXT))
    assert used == {"${item}"}
    assert STAGES["sample"]["foreach"] == ["faces", "digits"]


def test_the_places_are_the_outputs() -> None:
    written = set()
    for stage in STAGES:
        body = _body(stage)
        written |= {
            path
            for one in (*body["outs"], *body.get("metrics", []))
            for path in ([one] if isinstance(one, str) else one)
        }
    written -= {"data/samples/${item}"}
    known = {value.as_posix() for value in vars(places).values() if isinstance(value, Path)}
    # What `headstart compare` and `parts` write is no stage's, and samples lie in a folder each.
    assert known - {"plots/comparison.json", "features/parts.json", "data/samples"} == written


def test_what_looks_at_photos_looks_each_time() -> None:
    """DVC, told to watch the photos, would read them all and stop at a broken link."""
    looking = {stage for stage in STAGES if _body(stage).get("always_changed")}
    assert looking == {"prepare"}


def test_the_file_is_short_enough_to_be_read() -> None:
    assert len(TEXT.splitlines()) <= 220


def test_sections_of_params_yaml_are_the_options() -> None:
    content = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    assert set(content) == set(Params.model_fields)
    for name, field in Params.model_fields.items():
        assert isinstance(field.annotation, type)
        assert issubclass(field.annotation, Section)
        missing = set(field.annotation.model_fields) - set(content[name])
        assert not missing, f"params.yaml does not show {name}.{missing}"


def test_committed_run_is_of_this_code() -> None:
    """`dvc metrics diff` works from the first edit on: the lock is of the committed code.

    DVC itself compares, by content; what the run reads and writes besides code may be missing.
    """
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    stale = []
    for stage, changes in json.loads(done.stdout).items():
        for change in changes:
            if isinstance(change, str) and change != "always changed":
                stale.append(f"{stage}: {change}")
            if isinstance(change, str):
                continue
            for path, how in change.get("changed deps", {}).items():
                if path.split("/")[0] in (*CODE, "params.yaml"):
                    stale.append(f"{stage}: {path} {how}")
    assert not stale, "run `dvc repro` and commit dvc.lock and metrics/"
