"""Damage to bytes, drawn from a seed, and the images that it is done to."""

import io
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image
from scratch import photo

_EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF)
_HEADER = 64


def mutate(rng: random.Random, data: bytes, others: Sequence[bytes] = ()) -> tuple[str, bytes]:
    """Return what was done and the damaged bytes.

    Args:
        rng: Decides.
        data: The file.
        others: Files that may be mixed into it or stand in its place.
    """
    kinds = ["flip", "byte", "truncate", "zeros", "ones", "insert", "delete", "swap", "double"]
    kinds += ["header", "word", "tail"] + (["mix", "replace"] if others else [])
    kind = rng.choice(kinds)
    changed = bytearray(data)
    size = len(changed)
    at = rng.randrange(size) if size else 0
    # Mostly little is damaged, sometimes much.
    length = min(size - at, 1 << rng.randrange(0, 12))
    if not size:
        return "append", b"\0"
    match kind:
        case "flip":
            for _ in range(1 << rng.randrange(0, 4)):
                changed[rng.randrange(size)] ^= 1 << rng.randrange(8)
        case "byte":
            changed[at] = rng.choice(_EXTREMES)
        case "truncate":
            del changed[at:]
        case "zeros" | "ones":
            changed[at : at + length] = (b"\0" if kind == "zeros" else b"\xff") * length
        case "insert":
            changed[at:at] = rng.randbytes(length)
        case "delete":
            del changed[at : at + length]
        case "swap":
            to = rng.randrange(size - length + 1)
            one, other = changed[at : at + length], changed[to : to + length]
            changed[at : at + length], changed[to : to + length] = other, one
        case "double":
            changed[at:at] = changed[at : at + length]
        case "header":
            for _ in range(1 << rng.randrange(0, 3)):
                changed[rng.randrange(min(size, _HEADER))] = rng.choice(_EXTREMES)
        case "word":
            # A length, an offset or a number of rows or colors.
            width = rng.choice((2, 4, 8))
            at = rng.randrange(min(size, 1024))
            number = rng.choice((0, 1, 2 ** (8 * width - 1), 2 ** (8 * width) - 1, size, 65500))
            word = (number % 2 ** (8 * width)).to_bytes(width, rng.choice(("little", "big")))
            changed[at : at + width] = word
        case "tail":
            changed += rng.randbytes(length)
        case "mix":
            other = rng.choice(others)
            changed[at:] = other[at:]
        case "replace":
            changed[:] = rng.choice(others)
    return kind, bytes(changed)


def edit(rng: random.Random, path: Path) -> str:
    """Change a value in a file so that the file stays well-formed; return what was done.

    Args:
        rng: Decides.
        path: Ends in .h5, .json or .csv; changed in place.
    """
    match path.suffix:
        case ".h5":
            return _edit_h5(rng, path)
        case ".json":
            content = json.loads(path.read_text(encoding="utf-8"))
            what = _edit_json(rng, content)
            path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
            return f"edit {what}"
        case _:
            return _edit_lines(rng, path)


def _edit_h5(rng: random.Random, path: Path) -> str:
    with h5py.File(path, "r+") as file:
        datasets: list[Any] = []
        file.visititems(
            lambda _, found: datasets.append(found) if isinstance(found, h5py.Dataset) else None
        )
        datasets = [one for one in datasets if one.size]
        if file.attrs and (not datasets or rng.random() < 0.3):
            name = rng.choice(sorted(file.attrs))
            value = file.attrs[name]
            file.attrs[name] = f"{value}x" if isinstance(value, str) else value + 1
            return f"edit attribute {name}"
        dataset = rng.choice(datasets)
        values = dataset[()]
        flat = np.atleast_1d(values).reshape(-1)
        at = rng.randrange(len(flat))
        old = flat[at]
        if isinstance(old, bytes | str):
            flat[at] = old[:-1] + (b"#" if isinstance(old, bytes) else "#")
        else:
            flat[at] = old + 1 if old.dtype.kind == "f" else old ^ old.dtype.type(1)
        dataset[()] = flat.reshape(values.shape) if np.ndim(values) else flat[0]
        return f"edit {dataset.name}[{at}]"


def _edit_json(rng: random.Random, content: Any) -> str:
    while True:
        if isinstance(content, dict) and content:
            key: Any = rng.choice(sorted(content))
        elif isinstance(content, list) and content:
            key = rng.randrange(len(content))
        else:
            return "nothing"
        value = content[key]
        if isinstance(value, dict | list) and value and rng.random() < 0.9:
            content = value
            continue
        if rng.random() < 0.2:
            del content[key]
            return f"delete {key}"
        if isinstance(value, bool):
            content[key] = not value
        elif isinstance(value, int | float):
            content[key] = value + 1
        elif isinstance(value, str):
            content[key] = value[:-1] + ("0" if value[-1:] != "0" else "1")
        else:
            content[key] = 0
        return f"{key}"


def _edit_lines(rng: random.Random, path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    at = rng.randrange(len(lines))
    kind = rng.choice(("delete", "double", "swap", "cell"))
    match kind:
        case "delete":
            del lines[at]
        case "double":
            lines.insert(at, lines[at])
        case "swap":
            to = rng.randrange(len(lines))
            lines[at], lines[to] = lines[to], lines[at]
        case "cell":
            cells, others = lines[at].split(","), rng.choice(lines).split(",")
            column = rng.randrange(min(len(cells), len(others)))
            cells[column] = others[column]
            lines[at] = ",".join(cells)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return f"edit {kind} line {at}"


def images() -> dict[str, bytes]:
    """Return a small image of each format and kind that is read, by a name with its ending."""
    color = Image.fromarray(photo(1))
    gray, alpha = color.convert("L"), color.convert("RGBA")
    alpha.putalpha(gray)
    deep = Image.fromarray(np.asarray(gray, np.uint16) * 257)
    turned = Image.Exif()
    turned[0x0112] = 6
    frames = [Image.fromarray(photo(seed)) for seed in range(3)]
    made: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "baseline.jpg": (color, {"quality": 90}),
        "progressive.jpg": (color, {"quality": 90, "progressive": True}),
        "restart.jpg": (color, {"quality": 80, "restart_marker_rows": 1}),
        "gray.jpg": (gray, {}),
        "cmyk.jpg": (color.convert("CMYK"), {}),
        "turned.jpg": (color, {"exif": turned}),
        "several.mpo": (color, {"format": "MPO", "save_all": True, "append_images": frames}),
        "color.png": (color, {}),
        "alpha.png": (alpha, {}),
        "deep.png": (deep, {}),
        "palette.png": (color.quantize(16), {}),
        "transparent.png": (color.quantize(16), {"transparency": 3}),
        "bits.png": (gray.convert("1"), {}),
        "lossy.webp": (color, {}),
        "lossless.webp": (alpha, {"lossless": True}),
        "moving.webp": (color, {"save_all": True, "append_images": frames}),
        "still.gif": (color, {}),
        "moving.gif": (color, {"save_all": True, "append_images": frames}),
        "color.bmp": (color, {}),
        "palette.bmp": (color.quantize(16), {}),
        "raw.tif": (color, {}),
        "lzw.tif": (color, {"compression": "tiff_lzw"}),
        "deflate.tif": (color, {"compression": "tiff_adobe_deflate"}),
        "jpeg.tif": (color, {"compression": "jpeg"}),
        "deep.tif": (deep, {}),
        "color.avif": (color, {}),
        "lossy.jp2": (color, {"quality_layers": [20]}),
        "lossless.jp2": (gray, {}),
        "color.ppm": (color, {}),
        "gray.pgm": (gray, {}),
    }
    files = {}
    for name, (image, options) in made.items():
        memory = io.BytesIO()
        form = {"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000", "pgm": "PPM"}
        suffix = name.rpartition(".")[2]
        image.save(memory, **{"format": form.get(suffix, suffix.upper()), **options})
        files[name] = memory.getvalue()
    return files
