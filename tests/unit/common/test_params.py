"""params.yaml is read strictly, and its errors name file, section, key, value and expectation."""

import re
from pathlib import Path

import pytest

from headstart.commands.params import load_params
from headstart.common.errors import InputError
from headstart.heads.options import DenseOptions, LinearSVCOptions

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
        (r"pooling: avg  .*", "pooling: mean", "extract.pooling: .*'avg', 'max' or 'none'.*'mean'"),
        (r"validation: 0.2  ", "validation: 1.5  ", "prepare.validation: .*less than 1.*1.5"),
        (r"validation: 0.2  ", "validation: '0.2'", "prepare.validation: .*number.*'0.2'"),
        (r"  seed: 0   .*salt.*\n", "", "prepare.seed: Field required"),
        (
            r"  seed: 0   .*salt.*",
            "  seed: 0\n  sede: 1",
            "prepare.sede: unknown key; .*received 1",
        ),
        (r"test: 0.2", "test: 0.9", "prepare: .*leave a share for training"),
        (r"^    gap:", "    test:\n      kind: gap", "a head cannot be called 'test'"),
        (r"    linear_svc:", "    svm:", "train.heads.svm: .*'svm'.*"),
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


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(InputError, match="params.yaml not found: run from the project's folder"):
        load_params(tmp_path / "params.yaml")


def test_broken_yaml_is_told_by_line(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("prepare:\n  source: [a\n  test: 1\n")
    with pytest.raises(InputError, match=r"params\.yaml, line \d+, column \d+: not valid YAML"):
        load_params(path)
