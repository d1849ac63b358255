"""Which files of a preset are asked for, kept, and told of."""

import base64
import json
from pathlib import Path

import pytest

from headstart.catalog.hub import download
from headstart.catalog.hub.download import is_complete, preset_folder
from headstart.common.errors import InputError
from tests.origin import Origin

SLUG = "keras/clip/keras/clip_vit_base_patch16/3"
HANDLE = f"kaggle://{SLUG}"
API = f"/api/v1/models/{SLUG}/download/"
IMAGE = ["config.json", "image_converter.json", "preprocessor.json", "model.weights.h5"]
BYTE_PAIRS = ["assets/tokenizer/vocabulary.json", "assets/tokenizer/merges.txt"]
PIECES = ["assets/tokenizer/vocabulary.spm"]


def serve(origin: Origin, *names: str) -> None:
    origin.files |= {API + name: f"bytes of {name}".encode() for name in names}


def asked(origin: Origin) -> list[str]:
    """What was asked of Kaggle since the last call."""
    paths = [path.removeprefix(API) for path, _ in origin.requests if path.startswith(API)]
    origin.requests.clear()
    return paths


def present(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in found)


def fetch(*, text: bool = False) -> Path:
    return preset_folder("clip_vit_base_patch16", HANDLE, text=text)


@pytest.mark.parametrize("vocabulary", [BYTE_PAIRS, PIECES])
def test_the_tokenizer_comes_when_it_is_needed(origin: Origin, vocabulary: list[str]) -> None:
    serve(origin, *IMAGE, "tokenizer.json", *vocabulary, "task.json")
    assert not is_complete(HANDLE)
    folder = fetch()
    assert present(folder) == sorted(IMAGE)
    assert is_complete(HANDLE)
    assert not is_complete(HANDLE, text=True)
    assert asked(origin) == IMAGE
    assert fetch(text=True) == folder
    assert present(folder) == sorted([*IMAGE, "tokenizer.json", *vocabulary])
    assert not set(asked(origin)) & set(IMAGE)
    assert is_complete(HANDLE, text=True)
    fetch(text=True)
    assert asked(origin) == []


def test_what_a_preset_does_not_have_is_asked_for_once(origin: Origin) -> None:
    serve(origin, "config.json", "model.weights.h5")
    assert present(fetch()) == ["config.json", "model.weights.h5"]
    assert sorted(asked(origin)) == sorted(IMAGE)
    assert is_complete(HANDLE)
    fetch()
    assert asked(origin) == []


def test_after_a_failure_what_came_whole_is_kept(origin: Origin) -> None:
    serve(origin, *IMAGE)
    origin.faults[API + "model.weights.h5"] = "half"
    with pytest.raises(InputError, match="what is here already is kept"):
        fetch()
    origin.faults.clear()
    asked(origin)
    fetch()
    assert asked(origin) == ["model.weights.h5"]


def test_weights_in_parts_come_with_all_parts(origin: Origin) -> None:
    parts = ["model_00000.weights.h5", "model_00001.weights.h5"]
    serve(origin, *IMAGE[:-1], *parts)
    index = {"weight_map": {"/layers/a": parts[0], "/layers/b": parts}}
    origin.files[API + "model.weights.json"] = json.dumps(index).encode()
    folder = fetch()
    assert present(folder) == sorted([*IMAGE[:-1], "model.weights.json", *parts])
    assert is_complete(HANDLE)
    (folder / parts[1]).unlink()
    assert not is_complete(HANDLE)
    asked(origin)
    fetch()
    assert asked(origin) == parts[1:]


@pytest.mark.parametrize(
    "index",
    [
        {"weight_map": {"a": "../../config.h5"}},
        {"weight_map": {"a": "tokenizer.json"}},
        {"weight_map": {"a": [3]}},
        {"weight_map": {}},
        [],
    ],
)
def test_an_index_of_something_else_is_refused(origin: Origin, index: object) -> None:
    serve(origin, *IMAGE[:-1], "tokenizer.json")
    origin.files[API + "model.weights.json"] = json.dumps(index).encode()
    for _ in range(2):
        with pytest.raises(
            InputError, match=r"model\.weights\.json: expected an index of .*delete"
        ):
            fetch()
        assert not is_complete(HANDLE)


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ([], "config.json"),
        (["config.json", "tokenizer.json", *PIECES], "model.weights.h5"),
        ([*IMAGE], "tokenizer.json"),
        ([*IMAGE, "tokenizer.json"], "assets/tokenizer/vocabulary.json"),
        ([*IMAGE, "tokenizer.json", BYTE_PAIRS[0]], "assets/tokenizer/merges.txt"),
    ],
)
def test_a_preset_without_a_file_it_needs_is_told(
    origin: Origin, names: list[str], missing: str
) -> None:
    serve(origin, *names)
    for _ in range(2):
        with pytest.raises(InputError) as told:
            fetch(text=True)
        assert str(told.value) == (
            f"weights: the download of preset clip_vit_base_patch16 failed "
            f"({origin.url}{API}{missing}: there is no such file); see {origin.url}/models/{SLUG} "
            f"for what is published"
        )
        assert not is_complete(HANDLE, text=True)


@pytest.mark.parametrize("status", [401, 403])
def test_terms_that_are_not_accepted_are_told(origin: Origin, status: int) -> None:
    serve(origin, *IMAGE)
    origin.faults[API + "config.json"] = status
    with pytest.raises(
        InputError, match=f"{status} .*accept the model's terms at .*/models/{SLUG}"
    ):
        fetch()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"KAGGLE_USERNAME": "a", "KAGGLE_KEY": "b"}, f"Basic {base64.b64encode(b'a:b').decode()}"),
        ({"KAGGLE_API_TOKEN": "c"}, "Bearer c"),
    ],
)
def test_credentials_go_to_kaggle_and_not_to_its_storage(
    origin: Origin,
    variables: dict[str, str],
    expected: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    serve(origin, *IMAGE)
    fetch()
    for path, headers in origin.requests:
        assert headers.get("Authorization") == (expected if path.startswith(API) else None)


def test_unreadable_credentials_are_told(origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "kaggle.json").write_text("{")
    with pytest.raises(InputError, match=r"credentials cannot be read \(.*kaggle\.json"):
        fetch()


def test_without_kerashub_the_extra_is_named(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install headstart\[hub\]"):
        fetch()
    assert origin.requests == []


def test_the_cache_is_kagglehubs(origin: Origin) -> None:
    from kagglehub import cache, model_download
    from kagglehub.handle import parse_model_handle

    serve(origin, *IMAGE)
    folder = fetch()
    handle = parse_model_handle(SLUG)
    assert cache.get_cached_path(handle) == str(folder)
    origin.close()
    # It has no address of this origin: what it returns was here.
    for name in IMAGE:
        assert model_download(SLUG, name) == str(folder / name)

    # Without its mark a file may be a half that it has left.
    cache.mark_as_incomplete(handle, "model.weights.h5")
    assert not is_complete(HANDLE)


def test_what_kagglehub_has_fetched_is_used(origin: Origin) -> None:
    from kagglehub.cache import Cache
    from kagglehub.handle import parse_model_handle

    handle, cache = parse_model_handle(SLUG), Cache()
    folder = Path(cache.get_path(handle))
    folder.mkdir(parents=True)
    for name in ("config.json", "model.weights.h5"):
        (folder / name).write_text("kagglehub's")
    assert not is_complete(HANDLE)
    cache.mark_as_complete(handle)
    assert is_complete(HANDLE)
    assert fetch() == folder
    assert origin.requests == []
