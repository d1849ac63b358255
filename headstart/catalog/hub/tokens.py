"""Sentences into the tokens that a text tower reads, as KerasHub's own preprocessors make them.

By the libraries that KerasHub builds on: its own tokenizers want TensorFlow Text, which takes long
to import and is left out where KerasHub starts. Needs no TensorFlow.

Source: keras_hub/src/models/clip/{clip_tokenizer,clip_preprocessor}.py and
    keras_hub/src/models/siglip/{siglip_tokenizer,siglip_preprocessor}.py.
"""

import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.catalog.hub import text
from headstart.catalog.hub.folder import read_json, reading

_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|"
    r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Tokenizer(NamedTuple):
    """How a sentence becomes numbers.

    Attributes:
        encode: A sentence to tokens, without those that follow.
        start: What stands before each sentence, if anything.
        end: What stands behind each.
        pad: What fills the rest.
        length: Tokens of every sentence; longer ones are cut before their end.
    """

    encode: Callable[[str], list[int]]
    start: tuple[int, ...]
    end: tuple[int, ...]
    pad: int
    length: int

    @classmethod
    def load(cls, path: Path, length: int) -> "Tokenizer":
        """Read the tokenizer of a preset; of its configuration only numbers and words are taken.

        Args:
            path: The preset's folder, which lacks nothing (`headstart.catalog.hub.text.lacking`).
            length: Tokens that the text tower reads.

        Raises:
            InputError: the files cannot be read as what they should be.
        """
        name = text.tokenizer_class(path)
        files = [path / asset for asset in text.ASSETS[name]]
        with reading(" or ".join(map(str, files)), f"the files of a {name}"):
            return (_byte_pairs if name == "CLIPTokenizer" else _pieces)(path, files, length)

    def __call__(self, sentences: Sequence[str]) -> NDArray[np.int32]:
        """Return tokens (n, length)."""
        rows = np.full((len(sentences), self.length), self.pad, np.int32)
        room = self.length - len(self.start) - len(self.end)
        for row, sentence in zip(rows, sentences, strict=True):
            tokens = [*self.start, *self.encode(sentence)[:room], *self.end]
            row[: len(tokens)] = tokens
        return rows


def _byte_pairs(path: Path, files: Sequence[Path], length: int) -> Tokenizer:
    from tokenizers import Regex, models, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as Pairs

    vocabulary = read_json(files[0])
    lines = [line.rstrip() for line in files[1].read_text(encoding="utf-8").splitlines()]
    words = (line.split(" ") for line in lines if "#version:" not in line)
    merges = [(first, second) for first, second in words]
    pairs = Pairs(
        models.BPE(
            vocab=vocabulary,
            merges=merges,
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            fuse_unk=False,
            unk_token="<|endoftext|>",
        )
    )
    options = text.arguments(
        path / text.TOKENIZER, pad_with_end_token=False, add_prefix_space=False
    )
    pairs.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    pairs.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=options["add_prefix_space"]),
        ]
    )
    start, end = vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]
    given = _packing(path, length, add_start_token=True)
    return Tokenizer(
        encode=lambda sentence: list(pairs.encode(sentence, add_special_tokens=False).ids),
        start=(start,) if given["add_start_token"] else (),
        end=(end,) if given["add_end_token"] else (),
        pad=end if options["pad_with_end_token"] else 0,
        length=given["sequence_length"],
    )


def _pieces(path: Path, files: Sequence[Path], length: int) -> Tokenizer:
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor(model_proto=files[0].read_bytes())
    is_gemma = text.tokenizer_class(path) == "GemmaTokenizer"
    # SigLIP fills up with what ends a sentence.
    names = ("<eos>", "<pad>") if is_gemma else ("</s>", "</s>")
    end, pad = (pieces.piece_to_id(name) for name in names)
    options = text.arguments(path / text.TOKENIZER, add_bos=False, add_eos=False)
    given = _packing(path, length, add_start_token=False, canonicalize_text=True)

    def encode(sentence: str) -> list[int]:
        plain = _canonical(sentence) if given["canonicalize_text"] else sentence
        return list(pieces.encode(plain, **options))

    return Tokenizer(
        encode=encode,
        start=(),
        end=(end,) if given["add_end_token"] else (),
        pad=pad,
        length=given["sequence_length"],
    )


def _canonical(sentence: str) -> str:
    """Lower the case, and take punctuation and superfluous spaces out."""
    return " ".join(sentence.lower().translate(_NO_PUNCTUATION).split())


def _packing(path: Path, length: int, **defaults: bool) -> dict[str, Any]:
    file = path / text.PREPROCESSOR
    given = text.arguments(file, sequence_length=length, add_end_token=True, **defaults)
    return {**given, "sequence_length": min(given["sequence_length"], length)}
