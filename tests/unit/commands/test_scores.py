import json
from pathlib import Path
from typing import Any

import pytest

from headstart.commands.cli import main
from headstart.common.files import write_json
from headstart.heads.finetuned_card import NAME

SCORES = {
    "accuracy": 0.9,
    "balanced_accuracy": 0.88,
    "macro_f1": 0.87,
    "log_loss": 0.3,
    "intervals": {"accuracy": [0.8, 0.95]},
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Leave the metrics of a run with two heads, one of an awkward name."""
    monkeypatch.chdir(tmp_path)
    for name in ("selected", "logistic"):
        (tmp_path / "models/heads" / name).mkdir(parents=True)
    write_json(
        Path("metrics/heads.json"),
        {name: {"validation": {"accuracy": 0.91}} for name in ("logistic", "selected")},
    )
    cost = {"multiply_adds": 2_000_000, "parameters": 3_000_000}
    write_json(Path("metrics/extract.json"), {"feature_dim": 1280, "cost": cost})
    write_test(finetuned=False)
    for name in ("features/bottleneck.h5", "params.yaml"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    return tmp_path


def write_test(*, finetuned: bool) -> None:
    content: dict[str, Any] = {
        "selected": {"head": NAME if finetuned else "logistic", "tie": True, "runner_up": "x"},
        "heads": {"logistic": SCORES, "selected": SCORES},
    }
    if finetuned:
        content["finetuned"] = SCORES
        write_json(Path("metrics/finetune.json"), {"validation": {"accuracy": 0.97}})
    write_json(Path("metrics/test.json"), content)


def test_every_head_has_a_line_and_the_choice_is_named(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scores"]) == 0
    output = capsys.readouterr().out
    assert "logistic *" in output
    assert "selected " in output
    assert "0.800-0.950" in output
    assert "Features: 1,280 per image, from 2.0 M multiply-adds and 3.0 M parameters" in output
    assert "Selected on validation: logistic, a tie with x" in output
    assert "models/heads/logistic/" in output


def test_what_is_called_validation_is_told(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held_out = {
        "logistic": {"accuracy": 0.9, "images": 1171, "folds": 5},
        "selected": {"accuracy": 0.9, "images": 42},
    }
    content = {name: {"validation": one} for name, one in held_out.items()}
    write_json(Path("metrics/heads.json"), content)
    test = json.loads(Path("metrics/test.json").read_text())
    test["selected"]["held_out_images"] = 42
    write_json(Path("metrics/test.json"), test)
    assert main(["scores"]) == 0
    output = capsys.readouterr().out
    assert "Validation of logistic: 5-fold, 1,171 images\n" in output
    assert "Validation of selected: 42 images\n" in output
    assert "Selected on 42 held-out images: logistic, a tie with x" in output
    content["selected"] = content["logistic"]
    write_json(Path("metrics/heads.json"), content)
    assert main(["scores"]) == 0
    assert "Validation: 5-fold, 1,171 images\n" in capsys.readouterr().out


def test_the_spread_over_draws_of_shots_is_told(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(Path("metrics/test.json").read_text())
    told = {"count": 5, "accuracy_mean": 0.81234, "accuracy_std": 0.0321}
    content["heads"]["logistic"]["repeats"] = told
    write_json(Path("metrics/test.json"), content)
    assert main(["scores"]) == 0
    assert (
        "logistic: test accuracy 0.812 +- 0.032, mean and standard deviation over 5 draws"
        in capsys.readouterr().out
    )


def test_the_fine_tuned_model_stands_beside_the_heads(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_test(finetuned=True)
    assert main(["scores"]) == 0
    output = capsys.readouterr().out
    assert f"{NAME} *" in output
    assert "0.970" in output
    assert "models/finetuned/" in output


def test_what_the_scores_say_nothing_about_is_named(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lacking = {"classes_without_images": ["cat"]}
    write_json(
        Path("metrics/heads.json"),
        {name: {"validation": {"accuracy": 0.5, **lacking}} for name in ("logistic", "selected")},
    )
    selected = {"head": "logistic", "selected_by": "default"}
    none = {"images": 0, "classes_without_images": ["cat", "dog"]}
    write_json(
        Path("metrics/test.json"),
        {"selected": selected | none, "heads": {"logistic": none, "selected": none}},
    )
    assert main(["scores"]) == 0
    output = capsys.readouterr().out
    assert "No validation image of cat, which validation scores therefore leave out" in output
    assert "No test image: there are no test scores." in output
    assert "Selected: logistic, the first in params.yaml, since no image could be held" in output
    assert "0.500" in output


def test_a_clone_without_models_says_how_to_have_them(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("metrics/test.json").unlink()
    write_json(Path("metrics/summary.json"), {"selected": {"accuracy": 1.0}})
    assert main(["scores"]) == 1
    assert capsys.readouterr().err == (
        "error: metrics/test.json: no such file: `dvc metrics show` prints the scores that came "
        "with the project; run `dvc repro` to have them all, or `dvc pull` where DVC has a remote\n"
    )


def test_json_holds_the_same(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scores", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["heads"]["selected"]["test"] == SCORES
    assert content["cost"]["feature_dim"] == 1280


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "test.json",
            None,
            "metrics/test.json: no such file: there is no finished run yet; run `dvc repro`",
        ),
        ("heads.json", "{", "metrics/heads.json: not valid JSON (Expecting"),
        ("test.json", "{}", "metrics/test.json: expected the metrics of a finished run, but"),
        ("test.json", "[]", "metrics/test.json: expected the metrics of a finished run, but"),
    ],
)
def test_metrics_that_cannot_be_read_end_in_one_message(
    run: Path, capsys: pytest.CaptureFixture[str], name: str, text: str | None, message: str
) -> None:
    path = run / "metrics" / name
    path.unlink() if text is None else path.write_text(text)
    assert main(["scores"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
