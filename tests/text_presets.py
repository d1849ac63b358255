"""Tokenizers for the tiny presets that are paired with text, made and saved by keras-hub itself."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

_LETTERS = "abcdefghlmoprtuw"
_WORDS = ("photo", "of", "cat", "dog", "warm", "cold")
_SENTENCES = [
    "a photo of a cat", "a photo of a dog", "warm", "cold", "a blurred photo of a tabby cat",
    "the cold colour of water", "a warm photo of the dog",
]  # fmt: skip


def tokenizer_of(kind: str) -> Any:
    """Make a keras-hub tokenizer: "clip" (byte pairs), "siglip" or "siglip2" (sentence pieces)."""
    from keras_hub import models

    if kind == "clip":
        merges, tokens = [], [*_LETTERS, ".", *(f"{one}</w>" for one in (*_LETTERS, "."))]
        for word in _WORDS[:3]:
            parts = [*word[:-1], f"{word[-1]}</w>"]
            while len(parts) > 1:
                merges.append(f"{parts[0]} {parts[1]}")
                parts[:2] = [parts[0] + parts[1]]
                tokens.append(parts[0])
        # CLIP finds the end of a text as its largest number.
        tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
        return models.CLIPTokenizer({one: index for index, one in enumerate(tokens)}, merges)
    import sentencepiece

    # SigLIP 2 has Gemma's.
    special: dict[str, Any] = {"pad_id": -1, "bos_id": -1, "eos_id": 1, "unk_id": 2}
    if kind == "siglip2":
        special = {
            **{"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3},
            **{"pad_piece": "<pad>", "eos_piece": "<eos>", "bos_piece": "<bos>"},
        }
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_SENTENCES),
        model_writer=written,
        vocab_size=14,
        model_type="word",
        minloglevel=2,
        **special,
    )
    if kind == "siglip2":
        return models.GemmaTokenizer(proto=written.getvalue())
    return models.SigLIPTokenizer(proto=written.getvalue(), add_eos=True)


def add_tokenizer(kind: str, folder: Path) -> None:
    """Write the tokenizer's files into a preset's folder, as published presets have them."""
    tokenizer_of(kind).save_to_preset(str(folder))


def text_vectors(kind: str, folder: Path, sentences: Sequence[str]) -> np.ndarray:
    """Let keras-hub load the preset, read sentences and embed them, (n, dim) float32."""
    from keras_hub import models

    family = "CLIP" if kind == "clip" else "SigLIP"
    whole = models.Backbone.from_preset(str(folder))
    preprocessor = getattr(models, f"{family}Preprocessor")(
        models.Tokenizer.from_preset(str(folder)),
        sequence_length=whole.text_encoder.max_sequence_length,
    )
    side = whole.vision_encoder.image_shape[0]
    images = np.zeros((len(sentences), side, side, 3), np.float32)
    tokens = preprocessor({"images": images, "prompts": list(sentences)})["token_ids"]
    return np.asarray(whole.get_text_embeddings(tokens))
