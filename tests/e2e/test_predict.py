"""`headstart predict`, as a user runs it, on a small trained project."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import headstart
from headstart.commands import cli
from headstart.common.errors import InputError
from headstart.dataset.manifest import read_manifest
from headstart.extraction.store import FeatureStore
from headstart.scoring.predictions import Predictions

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Run]:
    """Run `headstart predict` in the project; give status, output and messages."""

    def call(*arguments: object, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        status = cli.main(["predict", *map(str, arguments)])
        return (status, *capsys.readouterr())

    with chdir(trained):
        yield call


def rows(output: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(output)))


def selected() -> str:
    return json.loads(Path("metrics/test.json").read_text())["selected"]["head"]


def test_predictions_are_those_of_evaluate(run: Run) -> None:
    manifest = read_manifest(Path("data/manifest.csv"))
    test = [row for row in manifest if row.split == "test"]
    for head in ("logistic", "prototype"):
        expected = Predictions.read(Path("predictions/heads") / f"{head}.h5").probabilities
        status, output, _ = run(
            *(row.path for row in test), "--head", head, "--no-abstain", "--format", "json"
        )
        assert status == 0
        told = [json.loads(line) for line in output.splitlines()]
        assert [one["path"] for one in told] == [row.path for row in test]
        for one, probabilities in zip(told, expected, strict=True):
            given = {entry["class"]: entry["probability"] for entry in one["classes"]}
            wanted = dict(zip(manifest.class_names, probabilities, strict=True))
            assert given == pytest.approx(wanted, abs=1e-6)
            assert one["prediction"] == max(wanted, key=wanted.get)


def test_the_selected_head_speaks_unless_another_is_named(run: Run, photo_folder: Path) -> None:
    photo = photo_folder / "warm" / "00.jpg"
    named = run(photo, "--head", selected())[1]
    assert run(photo)[1] == named
    assert run(photo, "--model", Path("models/heads").absolute() / selected())[1] == named


def test_its_own_preprocessing_whatever_params_say_now(run: Run, photo_folder: Path) -> None:
    before = run(photo_folder, "--format", "csv")[1]
    path = Path("params.yaml")
    content = path.read_text()
    try:
        path.write_text(content.replace("LeNet5", "AlexNet").replace("seed: 3", "seed: 4"))
        assert run(photo_folder, "--format", "csv")[1] == before
    finally:
        path.write_text(content)


def test_the_familiar_is_named_and_the_strange_is_not(
    run: Run, photo_folder: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for index in range(20):
        board = np.kron(rng.integers(0, 2, (12, 16)) * 255, np.ones((8, 8))).astype(np.uint8)
        Image.fromarray(board).save(tmp_path / f"{index:02}.png")
    _, output, _ = run(photo_folder, "--format", "csv")
    kept = [row["prediction"] == Path(row["path"]).parent.name for row in rows(output)]
    assert np.mean(kept) > 0.9
    status, output, _ = run(tmp_path, "--format", "csv")
    assert status == 0
    assert np.mean([row["prediction"] == "" for row in rows(output)]) > 0.9
    assert all(float(row["novelty"]) > 1 for row in rows(output) if not row["prediction"])
    status, output, messages = run(tmp_path)
    assert "(unlike training)" in output
    assert messages.startswith("note: with 32 training images ")
    assert "3.03% of ordinary images are above novelty 1" in messages
    status, output, messages = run(tmp_path, "--threshold", "1e9")
    assert "(unlike training)" not in output
    assert messages == ""
    table = run(tmp_path, "--no-abstain")[1]
    assert "(unlike training)" not in table
    assert "novelty" not in table


def test_what_cannot_be_read_is_told_one_by_one_and_the_rest_goes_on(
    run: Run, photo_folder: Path, tmp_path: Path
) -> None:
    good = (photo_folder / "warm" / "00.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(good)
    (tmp_path / "b.jpg").write_bytes(good[:-200])
    (tmp_path / "copy of b.jpg").write_bytes(good[:-200])
    (tmp_path / "c.jpg").write_text("no image")
    (tmp_path / "d.jpg").write_bytes(good)
    for _ in range(2):
        status, output, messages = run(
            tmp_path, "missing.jpg", tmp_path / "*.gif", "--format", "csv", "--views", "2"
        )
        assert status == 1
        assert [Path(row["path"]).name for row in rows(output)] == ["a.jpg", "d.jpg"]
        told = messages.splitlines()
        assert len(told) == 5
        assert f"error: {tmp_path}/b.jpg: damaged JPEG" in told[0]
        assert f"error: {tmp_path}/c.jpg: no image of a known format" in told[1]
        assert f"error: {tmp_path}/copy of b.jpg: damaged JPEG" in told[2]
        assert told[3] == "error: missing.jpg: no such file"
        assert told[4] == f"error: {tmp_path}/*.gif: no image matches this pattern"
    assert run(tmp_path / "b.jpg", "--format", "json")[:2] == (1, "")


def test_nothing_readable_and_an_empty_store_end_in_messages(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "empty"))
    # By its header an image, so that only decoding finds the damage.
    damaged = tmp_path / "cut.jpg"
    Image.new("RGB", (64, 64)).save(damaged)
    damaged.write_bytes(damaged.read_bytes()[:-40])
    for files in ([damaged], ["missing.jpg"], [damaged, "missing.jpg"]):
        status, output, messages = run(*files)
        assert (status, output) == (1, "")
        assert messages.count("error: ") == len(files) == len(messages.splitlines())


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--no-abstain", "--format", "csv"],
        ["--views", "2", "--format", "json"],
        ["--threshold", "0.1"],
        ["--head", "prototype"],
    ],
)
@pytest.mark.parametrize("damage", ["text", "cut"])
def test_a_first_chunk_without_a_readable_image_and_an_empty_store(
    run: Run,
    photo_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    damage: str,
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "empty"))
    good = (photo_folder / "warm" / "00.jpg").read_bytes()
    for index in range(20):
        # Text is told before extraction, a cut picture only by decoding it.
        bad = b"<html>%d" % index if damage == "text" else good[: -100 - index]
        (tmp_path / f"{index:02}.jpg").write_bytes(bad)
    (tmp_path / "z.jpg").write_bytes(good)
    status, output, messages = run(tmp_path, *arguments)
    assert status == 1
    assert len(messages.splitlines()) == messages.count("error: ") == 20
    header = "csv" in arguments
    assert len(output.splitlines()) == 1 + header
    assert f"{tmp_path}/z.jpg" in output.splitlines()[header]


def test_empty_standard_input_and_an_empty_path_are_told(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for stdin in ("", "\n\n"):
        assert run("-", stdin=stdin) == (
            1, "", "error: standard input: expected one path per line, received none\n",
        )  # fmt: skip
    with pytest.raises(SystemExit, match="2"):
        run("")
    assert "expected a path, received an empty text" in capsys.readouterr().err


def test_python_says_the_same(run: Run, photo_folder: Path, tmp_path: Path) -> None:
    photos = sorted(photo_folder.rglob("*.jpg"))[:6]
    wanted = rows(run(*photos, "--format", "csv", "--no-abstain")[1])
    model = headstart.load_model()
    frame = model.predict(photos)
    assert list(frame.columns) == ["path", "class", "probability", "novelty"]
    assert list(frame["path"]) == list(map(str, photos))
    assert list(frame["class"]) == [row["prediction"] for row in wanted]
    np.testing.assert_allclose(
        frame["probability"], [float(row["probability_1"]) for row in wanted], atol=1e-6
    )
    probabilities = model.predict_proba(photos)
    assert probabilities.shape == (6, len(model.classes_))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    novelty = rows(run(*photos, "--format", "csv")[1])
    np.testing.assert_allclose(
        frame["novelty"], [float(row["novelty"]) for row in novelty], atol=1e-4
    )
    named = headstart.load_model(Path("models/heads") / selected())
    assert named.predict(photo_folder / "warm").shape == (20, 4)
    pixels = [np.asarray(Image.open(photo)) for photo in photos]
    np.testing.assert_allclose(named.predict_proba(pixels), probabilities, atol=1e-6)
    with pytest.raises(InputError, match=r"no\.jpg: no such file"):
        model.predict(["no.jpg"])
    with pytest.raises(InputError, match="expected a model's folder"):
        headstart.load_model(tmp_path)


def test_views_are_averaged(run: Run, photo_folder: Path) -> None:
    photo = photo_folder / "cold" / "03.jpg"
    plain = rows(run(photo, "--format", "csv", "--no-abstain")[1])
    averaged = rows(run(photo, "--format", "csv", "--no-abstain", "--views", "5")[1])
    assert averaged[0]["prediction"] == plain[0]["prediction"]
    assert averaged[0]["probability_1"] != plain[0]["probability_1"]


def test_many_files_in_chunks_come_in_order(run: Run, photo_folder: Path) -> None:
    photos = sorted(map(str, photo_folder.rglob("*.jpg")))
    listed = "\n".join(photos * 5)
    status, output, _ = run("-", "--format", "csv", "--top", "1", stdin=listed)
    assert status == 0
    assert [row["path"] for row in rows(output)] == photos * 5
    columns = ["path", "prediction", "novelty", "abstained", "class_1", "probability_1"]
    assert list(rows(output)[0]) == columns


def test_a_second_prediction_runs_no_backbone_and_imports_no_tensorflow(
    run: Run, trained: Path, photo: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    Image.fromarray(photo(4711)).save(tmp_path / "new.png")
    first = run(tmp_path / "new.png")[1]
    shards = sorted(FeatureStore().root.rglob("*"))
    code = (
        "import sys; from headstart.commands import cli; status = cli.main(sys.argv[1:]);"
        "print([name for name in ('tensorflow', 'openvino', 'dvc') if name in sys.modules],"
        "file=sys.stderr); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", str(tmp_path / "new.png")],
        cwd=trained, capture_output=True, text=True, check=True, env=os.environ,
    )  # fmt: skip
    assert done.stdout == first
    assert done.stderr.splitlines()[-1] == "[]"
    assert sorted(FeatureStore().root.rglob("*")) == shards


def test_a_model_without_its_novelty_says_so(
    run: Run, trained: Path, photo_folder: Path, tmp_path: Path
) -> None:
    photo = photo_folder / "warm" / "01.jpg"
    copied = tmp_path / "elsewhere" / "mine"
    copied.mkdir(parents=True)
    for file in (trained / "models/heads/logistic").iterdir():
        if file.is_file():
            (copied / file.name).write_bytes(file.read_bytes())
    status, output, messages = run(photo, "--model", copied, "--format", "csv")
    assert status == 0
    assert rows(output)[0]["novelty"] == ""
    assert "novelty.h5: no such file; a class is named for every image" in messages


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--head", "resnet"], "--head: expected one of logistic, prototype, received resnet"),
        (
            ["--head", "finetuned"],
            "--head: expected one of logistic, prototype, received finetuned",
        ),
        (["--model", "nowhere"], "--model nowhere: no such folder; expected that of a model"),
    ],
)
def test_missing_models_are_told(run: Run, arguments: list[str], message: str) -> None:
    status, output, messages = run("x.jpg", *arguments)
    assert (status, output) == (1, "")
    assert message in messages


def test_without_a_finished_run_there_is_nothing_to_predict_with(run: Run, tmp_path: Path) -> None:
    with chdir(tmp_path):
        status, _, messages = run("x.jpg")
    assert status == 1
    assert "metrics/test.json: no such file: run from a project's folder" in messages


@pytest.mark.parametrize(
    "arguments",
    [["--top", "0"], ["--views", "-1"], ["--threshold", "0"], ["--threshold", "x"],
     ["--head", "a", "--model", "b"]],
)  # fmt: skip
def test_arguments_that_cannot_be_are_refused(run: Run, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("x.jpg", *arguments)
    assert stopped.value.code == 2
