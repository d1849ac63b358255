"""What features of the tiny networks must be: golden layers, read out as the papers do."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.golden_transformers import Floats, Taps, final_norm, golden
from tests.hub_arrays import ALL, MEAN, STD, Arrays

Images = NDArray[np.uint8]


def images_of(height: int, width: int, count: int = 2) -> Images:
    """Images of that size, so that nothing is resized: (count, height, width, 3)."""
    return np.random.default_rng(3).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def golden_taps(name: str, images: Images, arrays: Arrays | None = None) -> Taps:
    """Run the golden network, by default with its own arrays, on images as its presets say."""
    tiny = ALL[name]
    pixels = (images / 255 - np.array(MEAN)) / np.array(STD)
    return golden(tiny, tiny.arrays() if arrays is None else arrays, pixels.astype(np.float32))


def golden_feature(
    name: str, taps: Taps, layer: str, pooling: str, size: tuple[int, int]
) -> Floats:
    """Read a golden layer out.

    Args:
        name: The network.
        taps: Its layers.
        layer: One of them.
        pooling: As in `extract.pooling`.
        size: (height, width) of the images.
    """
    tiny, x = ALL[name], taps[layer]
    if x.ndim == 2:
        return x
    if tiny.prefix_tokens is None:
        return {"avg": x.mean((1, 2)), "max": x.max((1, 2)), "none": x}[pooling]
    patches = x[:, tiny.prefix_tokens :]
    mean = patches.mean(axis=1)
    match pooling:
        case "avg":
            return mean
        case "max":
            return patches.max(axis=1)
        case "none":
            # Swin's merges halve the grid.
            before = list(taps)[: list(taps).index(layer) + 1]
            side = tiny.arguments["patch_size"] * 2 ** sum("merge" in one for one in before)
            return patches.reshape(len(x), size[0] // side, size[1] // side, -1)
        case "cls":
            return x[:, 0]
        case "cls+avg":
            return np.concatenate([x[:, 0], mean], axis=-1)
    blocks = [taps[f"block_{tiny.depth - back}"][:, 0] for back in (3, 2, 1, 0)]
    normalized = [final_norm(tiny, tiny.arrays(), one) for one in blocks]
    return np.concatenate([*normalized, mean], axis=-1)


def assert_agree(found: Any, expected: Floats, tolerance: float, what: str) -> None:
    """Compare relative to the largest number."""
    assert found.shape == expected.shape, what
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    assert difference <= tolerance, f"{what}: {difference:.1e}"
