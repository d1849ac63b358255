"""The compiled resize gives Pillow's pixels, and where there is none Pillow gives them."""

import ctypes
import importlib.util
import io
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import get_args
from zipfile import ZipFile

import numpy as np
import pytest
from hatchling import build
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from headstart.common.vocabulary import Interpolation, Sizing
from headstart.images import compiled, resizing
from headstart.images.decoding import decode
from headstart.images.resizing import resize

ROOT = Path(__file__).parents[3]
FILTERS: tuple[Interpolation, ...] = get_args(Interpolation)

Photo = Callable[..., np.ndarray]
Both = Callable[[np.ndarray, Sizing], tuple[np.ndarray, np.ndarray]]


def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def contents(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture
def fresh() -> Iterator[None]:
    """What was found before is looked for again, and afterwards once more."""
    compiled.resample.cache_clear()
    yield
    compiled.resample.cache_clear()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library as the build hook compiles it, in a folder that could stand in sys.path."""
    folder = tmp_path_factory.mktemp("site")
    path = folder / compiled.FOLDER / compiled.library_name()
    path.parent.mkdir(parents=True)
    problem = hook().compile_library(ROOT / "headstart/images/resample.c", path)
    # What lacks a compiler goes without; a file that does not compile is a defect.
    if problem.startswith("no C compiler"):
        pytest.skip(problem)
    assert not problem
    return folder


@pytest.fixture(scope="module")
def kernel(library: Path) -> compiled.Resample:
    """The compiled function."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(library)])
        compiled.resample.cache_clear()
        function = compiled.resample()
        compiled.resample.cache_clear()
    path = library / compiled.FOLDER / compiled.library_name()
    # Only the processor may be the reason, not a library that is not found or not loaded.
    if not ctypes.CDLL(str(path)).headstart_supported():
        pytest.skip("compiled for processors with AVX2, which this one has not")
    assert function is not None
    return function


@pytest.fixture
def both(kernel: compiled.Resample, monkeypatch: pytest.MonkeyPatch) -> Both:
    """Resize by the compiled function, and by Pillow."""

    def call(image: np.ndarray, sizing: Sizing) -> tuple[np.ndarray, np.ndarray]:
        monkeypatch.setattr(compiled, "resample", lambda: kernel)
        ours = resize(image, sizing)
        monkeypatch.setattr(compiled, "resample", lambda: None)
        return ours, resize(image, sizing)

    return call


def pixels(seed: int, height: int, width: int, extreme: bool) -> np.ndarray:
    levels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.where(levels > 127, np.uint8(255), np.uint8(0)) if extreme else levels


sides = st.integers(1, 700) | st.integers(1, 12)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 2**32 - 1), *[sides] * 4, st.booleans(), st.sampled_from(["bilinear", "bicubic"])
)
@example(0, 1, 1, 1, 1, True, "bicubic")
@example(0, 1, 9000, 1, 1, True, "bicubic")
@example(0, 9000, 1, 2, 300, True, "bilinear")
@example(0, 2, 2, 1500, 900, True, "bicubic")
@example(0, 375, 500, 224, 224, False, "bilinear")
def test_any_pixels_from_any_size_to_any_size(
    kernel, seed, height, width, new_height, new_width, extreme, interpolation
):
    image = pixels(seed, height, width, extreme)
    expected = resizing._by_pillow(image, new_height, new_width, interpolation)
    resized = kernel(image, new_height, new_width, interpolation == "bicubic")
    np.testing.assert_array_equal(resized, expected)


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("way", ["stretch", "crop", "pad"])
def test_every_way_of_resizing(both: Both, way: str, interpolation: Interpolation):
    for seed, shape in enumerate([(60, 80), (80, 60), (1, 50), (50, 1), (40, 40), (33, 200)]):
        for size in ((40, 40), (31, 47), (1, 1), (90, 20)):
            ours, pillows = both(pixels(seed, *shape, False), Sizing(size, way, interpolation))
            np.testing.assert_array_equal(ours, pillows)
            assert ours.flags.c_contiguous


@pytest.mark.parametrize("interpolation", FILTERS)
def test_memory_in_any_order(both: Both, interpolation: Interpolation):
    image = pixels(0, 60, 80, False)
    sizing = Sizing((22, 24), interpolation=interpolation)
    for view in (
        image[7:50, 11:70],
        image[::-1],
        image[:, ::-1],
        image[::2, ::3],
        image[..., ::-1],
        image.swapaxes(0, 1),
        image[:, 5:6],
        image[9:10].swapaxes(0, 1),
        np.asfortranarray(image),
    ):
        ours, pillows = both(view, sizing)
        np.testing.assert_array_equal(ours, pillows)
        np.testing.assert_array_equal(ours, both(view.copy(order="C"), sizing)[0])


@pytest.mark.parametrize(
    ("kind", "mode"),
    [(kind, mode) for kind in ("JPEG", "PNG", "TIFF") for mode in ("RGB", "L", "CMYK", "RGBA", "P")
     if (kind, mode) not in {("JPEG", "RGBA"), ("JPEG", "P"), ("PNG", "CMYK")}]
    + [("PNG", "I;16"), ("PNG", "LA"), ("PNG", "1"), ("TIFF", "I;16"), ("PPM", "RGB"), ("PPM", "L")]
    + [(kind, "RGB") for kind in ("WEBP", "GIF", "BMP", "AVIF", "JPEG2000", "MPO")],
)  # fmt: skip
def test_every_kind_of_file(both: Both, photo: Photo, kind: str, mode: str):
    picture = Image.fromarray(photo(3, 75, 100))
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    elif mode == "LA":
        picture = picture.convert("L").convert("LA")
    else:
        picture = picture.convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    image = decode(buffer.getvalue())
    for interpolation in FILTERS:
        for size in ((32, 32), (120, 90)):
            ours, pillows = both(image, Sizing(size, interpolation=interpolation))
            np.testing.assert_array_equal(ours, pillows)


def test_threads_do_not_meet(kernel: compiled.Resample):
    images = [pixels(seed, 90 + seed, 120, False) for seed in range(16)]
    alone = [kernel(image, 50, 60, True) for image in images]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            together = list(pool.map(lambda image: kernel(image, 50, 60, True), images))
            np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 5), np.uint8),
        np.zeros((4, 5, 4), np.uint8),
        np.zeros((4, 5, 3), np.float32),
        np.zeros((4, 0, 3), np.uint8),
    ],
)
def test_memory_that_is_no_image_is_refused(kernel: compiled.Resample, image: np.ndarray):
    with pytest.raises(ValueError, match=r"expected \(H, W, 3\) uint8, received \(4, "):
        kernel(image, 3, 3, False)


@pytest.mark.usefixtures("fresh")
def test_without_a_library_pillow_resizes(tmp_path, monkeypatch, photo: Photo):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert compiled.resample() is None
    image = photo(0, 60, 80)
    expected = resizing._by_pillow(image, 20, 31, "bicubic")
    resized = resize(image, Sizing((20, 31), interpolation="bicubic"))
    np.testing.assert_array_equal(resized, expected)


@pytest.mark.usefixtures("fresh")
def test_a_library_that_cannot_be_loaded_is_passed_over(tmp_path, monkeypatch, kernel, library):
    damaged = tmp_path / compiled.FOLDER / compiled.library_name()
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"\x7fELF of another system")
    monkeypatch.setattr(sys, "path", ["\0", str(tmp_path)])
    assert compiled.resample() is None
    compiled.resample.cache_clear()
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(library)])
    assert compiled.resample() is not None


@pytest.mark.usefixtures("fresh")
def test_a_library_of_another_source_is_not_taken(tmp_path, monkeypatch, library):
    edited = tmp_path / "resample.c"
    edited.write_text((ROOT / "headstart/images/resample.c").read_text() + "\n")
    monkeypatch.setattr(compiled, "_SOURCE", edited)
    monkeypatch.setattr(sys, "path", [str(library)])
    assert compiled.resample() is None


def test_the_build_goes_on_without_a_compiler(tmp_path, monkeypatch):
    source, target = ROOT / "headstart/images/resample.c", tmp_path / "library.so"
    compile_library = hook().compile_library
    monkeypatch.setenv("CC", "no-such-compiler")
    assert compile_library(source, target) == "no C compiler (no-such-compiler) is installed"
    monkeypatch.setenv("CC", "false -m64")
    assert compile_library(source, target) == "false -m64 failed on headstart/images/resample.c"
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", "")
    assert compile_library(source, target) == "no C compiler (cc, gcc, clang) is installed"


@pytest.mark.slow
@pytest.mark.usefixtures("library")
def test_wheels_carry_the_library_and_say_for_which_system(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    library = f"{compiled.FOLDER}/{compiled.library_name()}"
    wheel = build.build_wheel(str(tmp_path))
    assert not wheel.endswith("-any.whl")
    assert {library, "headstart/images/resample.c"} <= contents(tmp_path / wheel)
    assert library in contents(tmp_path / build.build_editable(str(tmp_path)))
    assert capsys.readouterr().out == ""

    monkeypatch.setenv("CC", "no-such-compiler")
    pure = build.build_wheel(str(tmp_path))
    assert pure.endswith("-py3-none-any.whl")
    assert library not in contents(tmp_path / pure)
    assert library not in contents(tmp_path / build.build_editable(str(tmp_path)))
    told = "Images will be resized by Pillow, more slowly: no C compiler (no-such-compiler)"
    assert capsys.readouterr().err.count(told) == 2
