import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from headstart.commands import cli
from headstart.commands.project import template
from headstart.common import code
from headstart.common.code import LIBRARY, digest_of_package
from headstart.common.errors import InputError
from headstart.common.lock import check_lock, read_lock

ROOT = LIBRARY.parent
Run = Callable[..., str]


def forget() -> None:
    digest_of_package.cache_clear()
    template.stage_packages.cache_clear()
    template._repository_pipeline.cache_clear()


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the library as a wheel lays it out, that may be changed."""
    copy = tmp_path / "site-packages" / "headstart"
    shutil.copytree(LIBRARY, copy, ignore=shutil.ignore_patterns("__pycache__", "commands"))
    carried = copy / "template"
    for name in ("dvc.yaml", "params.yaml", ".dvcignore"):
        (carried / name).parent.mkdir(exist_ok=True)
        shutil.copy2(ROOT / name, carried / name)
    for name in ("pipeline", ".dvc/plots"):
        shutil.copytree(ROOT / name, carried / name)
    monkeypatch.setattr(code, "LIBRARY", copy)
    monkeypatch.setattr(template, "LIBRARY", copy)
    monkeypatch.setattr(template, "version", lambda _: "0.2.0")
    forget()
    yield copy
    forget()


@pytest.fixture
def project(
    library: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Path:
    """A project under the library as it is, without the stage `sample`."""
    folder = tmp_path / "project"
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["init", "project", "--source", "photos"]) == 0
    capsys.readouterr()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def upgrade(project: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def upgrade(*arguments: str, status: int = 0) -> str:
        forget()
        assert cli.main(["upgrade", *arguments]) == status
        printed = capsys.readouterr()
        return printed.err if status else printed.out

    return upgrade


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, after))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")
            if path.is_file()}  # fmt: skip


def test_the_same_library_changes_nothing(project: Path, upgrade: Run) -> None:
    before = content(project)
    assert upgrade() == "headstart.lock is of the installed headstart 0.2.0: nothing to do.\n"
    assert content(project) == before


def test_an_upgrade_that_changed_no_code_of_a_stage_makes_none_stale(
    project: Path, upgrade: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_lock()
    monkeypatch.setattr(template, "version", lambda _: "0.3.0")
    assert upgrade() == (
        "headstart.lock: headstart 0.3.0, was 0.2.0\n"
        "No stage runs again: no code that one runs has changed.\n"
    )
    assert read_lock() == before.model_copy(update={"version": "0.3.0"})


def test_changed_code_concerns_the_stages_that_run_it(
    library: Path, project: Path, upgrade: Run
) -> None:
    with (library / "images/decoding.py").open("a") as file:
        file.write("# changed\n")
    forget()
    with pytest.raises(InputError, match="`headstart upgrade` moves on"):
        check_lock("prepare")
    check_lock("train")
    printed = upgrade()
    runs_again = [line.split()[0] for line in printed.splitlines() if line.startswith("  ")]
    listed = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    listed.pop("sample")
    assert runs_again == [name for name in listed if "headstart/images" in listed[name]["deps"]]
    assert "  prepare   code: headstart/images\n" in printed
    check_lock("prepare")
    assert "nothing to do" in upgrade()


def test_new_params_come_with_default_and_comment(
    library: Path, project: Path, upgrade: Run
) -> None:
    edit(Path("params.yaml"), "pictures: 600   ", "pictures: 60    # few")
    edit(
        library / "template/params.yaml",
        "  pictures: 600",
        "  paper: a4                 # a4 | letter\n  pictures: 600",
    )
    # Only code can have brought it.
    assert "nothing to do" in upgrade()
    with (library / "report/options.py").open("a") as file:
        file.write("# paper\n")
    printed = upgrade()
    assert "params.yaml: added report.paper\n" in printed
    assert "  report   code: headstart/report; new in params.yaml: report.paper\n" in printed
    text = Path("params.yaml").read_text()
    assert "  paper: a4                 # a4 | letter\n  pictures: 60    # few" in text


def test_a_param_that_is_gone_is_named_not_removed(
    library: Path, project: Path, upgrade: Run
) -> None:
    edit(Path("params.yaml"), "evaluate:\n", "evaluate:\n  views: 3\n")
    printed = upgrade()
    assert "Put right by hand" in printed
    assert "params.yaml: evaluate.views: unknown key" in printed
    assert "  views: 3\n" in Path("params.yaml").read_text()


def test_files_that_nobody_edited_are_renewed(library: Path, project: Path, upgrade: Run) -> None:
    edit(library / "template/pipeline/train.py", '"train", main', '"train", main  # new')
    printed = upgrade()
    assert "pipeline/train.py: renewed; you had not edited it" in printed
    assert "  train  pipeline/train.py renewed\n" in printed
    assert "# new" in Path("pipeline/train.py").read_text()


def test_edited_files_are_left_alone_and_the_new_ones_lie_beside_them(
    library: Path, project: Path, upgrade: Run
) -> None:
    edit(Path("pipeline/train.py"), '"train", main', '"train", main  # mine')
    edit(Path("dvc.yaml"), "  train:\n", "  mine:\n    cmd: echo\n\n  train:\n")
    mine = content(project)
    assert "nothing to do" in upgrade()
    edit(library / "template/pipeline/train.py", '"train", main', '"train", main  # new')
    edit(
        library / "template/dvc.yaml",
        "  train:\n",
        "  segment:\n    cmd: python -m pipeline.segment\n"
        "    deps: [headstart/common, pipeline/segment.py]\n\n  train:\n",
    )
    (library / "template/pipeline/segment.py").write_text("")
    printed = upgrade()
    assert "pipeline/train.py.new; take over what you want" in printed
    assert "dvc.yaml.new; take over" in printed
    assert "pipeline/segment.py: new\n" in printed
    assert "No stage runs again" in printed
    for name in ("pipeline/train.py", "dvc.yaml"):
        assert Path(name).read_bytes() == mine[name]
    assert "# new" in Path("pipeline/train.py.new").read_text()
    assert "stages.segment.digest" in Path("dvc.yaml.new").read_text()
    # Told once; and taken over as it is, it is nobody's edit.
    assert "nothing to do" in upgrade()
    Path("dvc.yaml.new").replace("dvc.yaml")
    assert "nothing to do" in upgrade()


def test_an_untouched_dvc_yaml_gets_the_new_stages(
    library: Path, project: Path, upgrade: Run
) -> None:
    edit(library / "template/dvc.yaml", "outs: [models/novelty.h5]", "outs: [models/novel.h5]")
    printed = upgrade()
    assert "  novelty  dvc.yaml renewed\n" in printed
    assert "models/novel.h5" in Path("dvc.yaml").read_text()
    assert "sample" not in Path("dvc.yaml").read_text()


def test_a_file_of_the_template_that_is_gone(library: Path, project: Path, upgrade: Run) -> None:
    (library / "template/.dvc/plots/log_by_head.json").unlink()
    assert ".dvc/plots/log_by_head.json: Headstart no longer has it; delete it" in upgrade()
    assert Path(".dvc/plots/log_by_head.json").is_file()


def test_a_dry_run_tells_the_same_and_writes_nothing(
    library: Path, project: Path, upgrade: Run
) -> None:
    with (library / "heads/options.py").open("a") as file:
        file.write("# changed\n")
    edit(library / "template/params.yaml", "  shots: null", "  new: 1\n  shots: null")
    before = content(project)
    told = upgrade("--dry-run")
    assert content(project) == before
    assert told.endswith("Nothing is written (--dry-run).\n")
    assert upgrade() == told.removesuffix("Nothing is written (--dry-run).\n")


def test_no_project(tmp_path: Path, upgrade: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "headstart.lock: no such file: run from a project's folder" in upgrade(status=1)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("dvc.yaml", None, "dvc.yaml not found: bring it back"),
        ("dvc.yaml", "stages: [", "dvc.yaml: expected stages as `dvc repro` reads them"),
        ("dvc.yaml", "plots: []", "dvc.yaml: expected stages as `dvc repro` reads them"),
        ("params.yaml", "a: [", "not valid YAML"),
    ],
)
def test_damaged_files(
    project: Path, upgrade: Run, name: str, text: str | None, message: str
) -> None:
    if text is None:
        Path(name).unlink()
    else:
        Path(name).write_text(text)
    before = content(project)
    assert message in upgrade(status=1)
    assert content(project) == before


def test_what_git_must_ignore_is_added(upgrade: Run, project: Path) -> None:
    text = Path(".gitignore").read_text()
    edit(project / ".gitignore", ".headstart-*\n", "*.log\n")
    told = upgrade()
    assert ".gitignore: added .headstart-*\n" in told
    assert sorted(Path(".gitignore").read_text().splitlines()) == sorted(
        ["*.log", *text.splitlines()]
    )
    assert "nothing to do" in upgrade()
    Path(".gitignore").unlink()
    assert "nothing to do" in upgrade()
