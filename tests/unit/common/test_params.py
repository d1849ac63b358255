"""params.yaml is read strictly, and its errors name file, section, key, value and expectation."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from headstart.common.errors import InputError
from headstart.common.params import load_section, read_params
from headstart.configuration.params import load_params
from headstart.extraction.options import ExtractOptions
from headstart.finetuning.options import FinetuneOptions
from headstart.heads.options import DenseOptions, LinearSVCOptions, TrainOptions
from pipeline import novelty
from tests.feature_files import blobs, write_project

ROOT = Path(__file__).parents[3]
DEFAULT = (ROOT / "params.yaml").read_text(encoding="utf-8")


@pytest.fixture
def edited(tmp_path):
    """Write params.yaml with one passage replaced, and return its path."""

    def edit(pattern: str, replacement: str) -> Path:
        text, count = re.subn(pattern, replacement, DEFAULT, count=1, flags=re.MULTILINE)
        assert count == 1
        path = tmp_path / "params.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return edit


def changed(folder: Path, section: str, **values: object) -> Path:
    """Write params.yaml with other values in one section, and return its path."""
    yaml = YAML()
    content = yaml.load(DEFAULT)
    content[section] |= values
    path = folder / "params.yaml"
    yaml.dump(content, path)
    return path


def test_the_committed_file_is_valid():
    assert load_params(ROOT / "params.yaml").extract.backbone == "EfficientNetLite0"


def test_a_number_in_scientific_notation_is_a_number(edited):
    path = edited(r"^      learning_rate: 1e-3", "      learning_rate: 2e-3")
    dense = load_params(path).train.heads["dense"]
    assert isinstance(dense, DenseOptions)
    assert dense.learning_rate == 0.002


def test_a_heads_kind_defaults_to_its_name(edited):
    heads = load_params(edited(r"^    linear_svc:\n.*\n", "    linear_svc:\n")).train.heads
    assert isinstance(heads["linear_svc"], LinearSVCOptions)


def test_configurations_of_one_kind_stand_side_by_side(edited):
    path = edited(
        r"^    linear_svc:$", "    dense_wide: {kind: dense, units: [512]}\n    linear_svc:"
    )
    wide = load_params(path).train.heads["dense_wide"]
    assert isinstance(wide, DenseOptions)
    assert wide.units == [512]


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        (r"pooling: avg  .*", "pooling: mean", "extract.pooling: .*'avg', 'max'.*'mean'"),
        (r"validation: 0.2  ", "validation: 1.5  ", "prepare.validation: .*less than 1.*1.5"),
        (r"validation: 0.2  ", "validation: '0.2'", "prepare.validation: .*number.*'0.2'"),
        (r"  seed: 0   .*salt.*\n", "", "prepare.seed: Field required"),
        (
            r"  seed: 0   .*salt.*",
            "  seed: 0\n  sede: 1",
            "prepare.sede: unknown key; .*received 1",
        ),
        (r"test: 0.2", "test: 0.9", "prepare: .*leave a share for training"),
        (
            r"^    linear_svc:.*\n.*",
            "    ../mine: {kind: ridge}",
            r"train.heads.\.\./mine: nothing can be called '\.\./mine': the name",
        ),
        (
            r"^    linear_svc:.*\n.*",
            "    'l; touch x #':",
            "train.heads.l; touch x #: nothing can be called 'l; touch x #'",
        ),
        (r"^    linear_svc:", "    svm:", "train.heads.svm.kind: .*'linear_svc'.*received 'svm'"),
        (r"^      epochs: 50", "      epochs: 0", "epochs: .*greater than or equal to 1.*0"),
    ],
)
def test_a_wrong_value_is_told_by_file_key_and_value(edited, pattern, replacement, message):
    with pytest.raises(InputError, match=r"params\.yaml: .*" + message):
        load_params(edited(pattern, replacement))


def test_all_wrong_values_are_told_at_once(edited):
    path = edited(r"(pooling: )avg  (.|\n)*?precision: float32 ", r"\1mean\n  precision: half ")
    with pytest.raises(InputError) as caught:
        load_params(path)
    assert "extract.pooling" in str(caught.value)
    assert "extract.precision" in str(caught.value)


@pytest.mark.parametrize(
    ("section", "kind", "values", "expected"),
    [
        (
            "extract", ExtractOptions, {"image_size": [1, "x"]},
            ["extract.image_size.1: Input should be a valid integer, received 'x'"],
        ),
        (
            "extract", ExtractOptions, {"image_size": "big"},
            ["extract.image_size: Input should be 'auto' or a valid integer or a valid list, "
             "received 'big'"],
        ),
        (
            "train", TrainOptions, {"heads": {"dense": {"learning_rate": "fast", "untis": [8]}}},
            ["train.heads.dense.learning_rate: Input should be a valid number, received 'fast'",
             "train.heads.dense.untis: unknown key; remove it or correct its spelling, received "
             "[8]"],
        ),
        (
            "train", TrainOptions, {"heads": {"logistic": {"l2": "abc"}}},
            ["train.heads.logistic.l2: Input should be 'auto' or a valid number, received 'abc'"],
        ),
        (
            "train", TrainOptions, {"class_weight": {"cat": -1.0}},
            ["train.class_weight.cat: Input should be greater than 0, received -1.0"],
        ),
        (
            "train", TrainOptions, {"heads": {"dense": 3, "ridge": None}},
            ["train.heads.dense: Input should be keys with values, received 3"],
        ),
        (
            "finetune", FinetuneOptions, {"unfreeze": None},
            ["finetune.unfreeze: Input should be 'none', 'last_block', 'all' or 'scratch' or a "
             "valid number or a valid string, received None"],
        ),
        (
            "finetune", FinetuneOptions, {"stages": [{"unfreeze": "all"}], "clip_norm": "x"},
            ["finetune.clip_norm: Input should be a valid number, received 'x'",
             "finetune.stages.0.epochs: Field required"],
        ),
    ],
)  # fmt: skip
def test_messages_name_keys_that_a_user_wrote_and_no_types(
    tmp_path, section, kind, values, expected
):
    """Of "this or that", pydantic tells each branch with names of its own."""
    path = changed(tmp_path, section, **values)
    with pytest.raises(InputError) as caught:
        load_section(section, kind, path)
    assert str(caught.value).splitlines() == [f"{path}: {line}" for line in expected]


@pytest.mark.parametrize(
    ("section", "kind", "values", "key"),
    [
        ("train", TrainOptions, {"heads": {"mine": {"kind": "dense", "optimizer": "adamw"}}},
         "train.heads.mine"),
        ("finetune", FinetuneOptions, {"optimizer": "adamw", "weight_decay": 0.0}, "finetune"),
    ],
)  # fmt: skip
def test_adamw_without_weight_decay_is_refused(tmp_path, section, kind, values, key):
    path = changed(tmp_path, section, **values)
    with pytest.raises(InputError) as caught:
        load_section(section, kind, path)
    assert str(caught.value) == (
        f"{path}: {key}: adamw is adam with weight decay: expected weight_decay above 0 (0.01 is "
        "usual), received 0; set it, or use adam"
    )


def test_adamw_with_weight_decay_is_accepted(tmp_path):
    path = changed(tmp_path, "finetune", optimizer="adamw", weight_decay=0.01)
    assert load_section("finetune", FinetuneOptions, path).optimizer == "adamw"


def test_a_section_is_read_whatever_stands_in_the_others(tmp_path):
    path = changed(tmp_path, "train", heads={"../mine": 3})
    assert load_section("extract", ExtractOptions, path).pooling == "avg"
    with pytest.raises(InputError, match=r"train\.heads\.\.\./mine: nothing can be called"):
        load_params(path)


def test_a_stage_is_not_stopped_by_the_section_of_another(tmp_path, monkeypatch):
    changed(tmp_path, "prepare", validation="much")
    write_project(tmp_path, *blobs(20, 2, 8))
    monkeypatch.chdir(tmp_path)
    novelty.main()
    assert Path("models/novelty.h5").is_file()


def test_a_missing_section_is_told(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("train: {}\n")
    with pytest.raises(InputError, match=r"params\.yaml: extract: the section is missing; add it"):
        load_section("extract", ExtractOptions, path)


def test_a_section_without_content_is_told(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("extract:\n")
    with pytest.raises(InputError, match="extract: Input should be keys with values, received Non"):
        load_section("extract", ExtractOptions, path)


def test_an_unknown_key_is_told(tmp_path):
    path = changed(tmp_path, "extract", poling="avg")
    with pytest.raises(InputError, match="extract.poling: unknown key; remove it or correct its"):
        load_section("extract", ExtractOptions, path)


@pytest.mark.parametrize("content", ["", "just text\n", "- a\n"])
def test_a_file_without_sections_is_told(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=r"params\.yaml: expected sections such as `prepare:`"):
        load_section("extract", ExtractOptions, path)


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(InputError, match="params.yaml: no such file: run from a project's folder"):
        load_params(tmp_path / "params.yaml")


def test_broken_yaml_is_told_by_line(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("prepare:\n  source: [a\n  test: 1\n")
    with pytest.raises(InputError, match=r"params\.yaml, line \d+, column \d+: not valid YAML"):
        load_params(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("# 사진\n".encode("cp949"), r"line 1: expected UTF-8, received the byte 0xbb"),
        ("prepare:\n  source: a\n".encode("utf-16"), r"line 1: expected UTF-8, received the byte"),
        (b"prepare:\n  source: \x07\n", r"params\.yaml: not valid YAML: .*control characters"),
        (b"prepare: [\n", r"params\.yaml, line \d+, column \d+: not valid YAML"),
    ],
)
def test_text_that_is_no_yaml_in_utf_8_is_told(tmp_path, content, message):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_params(path)


@pytest.mark.parametrize("line", ["\tsource: a", "  \tsource: a"])
def test_a_tab_is_told_with_the_cure(tmp_path, line):
    path = tmp_path / "params.yaml"
    path.write_text(f"prepare:\n{line}\n  test: 0.2\n")
    with pytest.raises(InputError, match=r"line 2, .*; indent with spaces, not with a tab$"):
        read_params(path)


def test_line_ends_of_windows_are_line_ends(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes(DEFAULT.replace("\n", "\r\n").encode())
    assert load_params(path) == load_params(ROOT / "params.yaml")


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(DEFAULT, encoding="utf-8-sig")
    assert load_params(path) == load_params(ROOT / "params.yaml")


def test_names_of_classes_that_yaml_takes_for_numbers_are_names(tmp_path):
    path = changed(tmp_path, "train", class_weight={0: 2.0, "1": 1.0, True: 3.0})
    assert load_params(path).train.class_weight == {"0": 2.0, "1": 1.0, "true": 3.0}
