"""The files of a preset by which text becomes tokens. Read as data; needs no TensorFlow."""

from pathlib import Path
from typing import Any

from headstart.catalog.hub.folder import read_json
from headstart.common.files import digest_of, sha256_of

TOKENIZER = "tokenizer.json"
PREPROCESSOR = "preprocessor.json"
_ASSETS = "assets/tokenizer"

# Source: keras_hub/src/tokenizers, `file_assets`. SigLIP 2 has Gemma's tokenizer.
ASSETS = {
    "CLIPTokenizer": (f"{_ASSETS}/vocabulary.json", f"{_ASSETS}/merges.txt"),
    "SigLIPTokenizer": (f"{_ASSETS}/vocabulary.spm",),
    "GemmaTokenizer": (f"{_ASSETS}/vocabulary.spm",),
}
"""Files of a tokenizer, by the name of its class in keras-hub."""


def lacking(folder: Path) -> str:
    """Return what a preset lacks to turn text into tokens; an empty text where it lacks nothing."""
    if not (folder / TOKENIZER).is_file():
        return TOKENIZER
    known = ASSETS.get(tokenizer_class(folder))
    if known is None:
        return f"a {TOKENIZER} of class {', '.join(ASSETS)}"
    return ", ".join(name for name in known if not (folder / name).is_file())


def tokenizer_class(folder: Path) -> str:
    """Return the name of the tokenizer's class in keras-hub."""
    return str(read_json(folder / TOKENIZER).get("class_name"))


def digest(folder: Path) -> str:
    """Return the digest of all files that decide which tokens a text becomes."""
    names = (TOKENIZER, PREPROCESSOR, *ASSETS.get(tokenizer_class(folder), ()))
    files = {name: folder / name for name in names}
    return digest_of({name: sha256_of(file) for name, file in files.items() if file.is_file()})


def arguments(file: Path, **defaults: int | bool) -> dict[str, Any]:
    """Return values of the keys of `defaults` in the configuration of a class.

    Args:
        file: As keras-hub writes it: an object with a key config; it may be missing.
        defaults: The keys, and what they are where the file says nothing or no such value.
    """
    config = read_json(file).get("config") if file.is_file() else None
    given = config if isinstance(config, dict) else {}
    return {
        name: given[name] if type(given.get(name)) is type(default) else default
        for name, default in defaults.items()
    }
