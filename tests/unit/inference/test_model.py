"""Which folder is the model's, and what tells novelty for it."""

import json
from pathlib import Path

import pytest

from headstart.common import places
from headstart.common.errors import InputError
from headstart.extraction.store import FeatureStore
from headstart.heads import finetuned_card
from headstart.inference.model import find_novelty, load_trained_model, model_folder


def select(project: Path, head: str) -> None:
    path = project / places.TEST_METRICS
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"selected": {"head": head}}))


def test_the_selected_model_is_a_head_or_the_fine_tuned_one(tmp_path: Path) -> None:
    select(tmp_path, "knn")
    assert model_folder(None, None, tmp_path) == tmp_path / "models/heads/knn"
    select(tmp_path, finetuned_card.NAME)
    assert model_folder(None, None, tmp_path) == tmp_path / "models/finetuned"


def put(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "head.json").touch()
    return folder


def test_finetuned_names_the_fine_tuned_model_unless_a_head_is_called_so(tmp_path: Path) -> None:
    model, dense = put(tmp_path / "models/finetuned"), put(tmp_path / "models/heads/dense")
    assert model_folder("finetuned", None, tmp_path) == model
    assert model_folder("dense", None, tmp_path) == dense
    head = put(tmp_path / "models/heads/finetuned")
    assert model_folder("finetuned", None, tmp_path) == head


@pytest.mark.parametrize("name", ["finetuned", "knn", "../heads/dense", ""])
def test_a_name_that_no_model_has_is_told_with_those_there_are(tmp_path: Path, name: str) -> None:
    for head in ("gap", "dense"):
        put(tmp_path / "models/heads" / head)
    with pytest.raises(InputError, match=rf"^--head: expected one of dense, gap, received {name}$"):
        model_folder(name, None, tmp_path)


def test_a_name_where_nothing_is_trained(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="heads: no such file: there is no finished run yet; run `dvc"
    ):
        model_folder("dense", None, tmp_path)


def test_a_folder_goes_before_a_name(tmp_path: Path) -> None:
    assert model_folder("dense", tmp_path) == tmp_path
    with pytest.raises(InputError, match=r"^--model .*mine: no such folder; expected that of a mo"):
        model_folder("dense", tmp_path / "mine")


def test_a_misspelled_head_is_answered_with_the_likely_one(tmp_path: Path) -> None:
    for head in ("gap", "logistic"):
        put(tmp_path / "models/heads" / head)
    with pytest.raises(InputError, match=r"received logistc; did you mean logistic\?$"):
        model_folder("logistc", None, tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"selected": null}'])
def test_scores_that_select_no_model_are_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "metrics").mkdir()
    (tmp_path / places.TEST_METRICS).write_text(content)
    with pytest.raises(InputError, match="test.json: expected the scores of a finished run"):
        model_folder(None, None, tmp_path)


def test_novelty_lies_one_or_two_folders_above(trained: Path) -> None:
    model = load_trained_model(trained / "models/heads/logistic", FeatureStore(), None)
    for folder in ("models/heads/logistic", "models/finetuned"):
        assert find_novelty(trained / folder, model)[0] is not None
    novelty, problem = find_novelty(trained / "models", model)
    assert novelty is None
    assert problem == f"{trained}/novelty.h5: no such file"
