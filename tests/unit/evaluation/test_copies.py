import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from headstart.dataset.descriptions import cosine_series
from headstart.dataset.duplicates import describe
from headstart.evaluation import copies, windows
from headstart.evaluation.alignment import MIRROR, align, cosines
from headstart.evaluation.copies import CERTAIN, LARGEST, find_copies, ratio_limit

ALONE = np.full(200, -1)


def _pictures(count: int, seed: int) -> list[np.ndarray]:
    """Pictures of all scales, as photos are: noise whose frequencies fall off."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(np.fft.fftfreq(96), np.fft.fftfreq(96), indexing="ij")
    falling = 1 / np.maximum(np.hypot(y, x), 1 / 96)
    fields = np.fft.ifft2(np.fft.fft2(rng.standard_normal((count, 96, 96))) * falling).real
    fields = 128 + 40 * fields / fields.std(axis=(1, 2), keepdims=True)
    return list(fields.clip(0, 255).astype(np.uint8))


def _described(pictures: list[np.ndarray]) -> np.ndarray:
    return np.stack([describe(picture) for picture in pictures])


def _jpeg(picture: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=30)
    return np.asarray(Image.open(file))


ALTERATIONS = {
    "corner": ("crop", lambda picture: picture[:86, 10:]),
    "middle": ("crop", lambda picture: picture[10:-10, 10:-10]),
    "mirrored crop": ("crop", lambda picture: picture[4:90, 90:4:-1]),
    "mirrored": ("mirrored", lambda picture: np.asarray(ImageOps.mirror(Image.fromarray(picture)))),
    "recompressed": ("near", _jpeg),
    "half": ("near", lambda picture: cv2.resize(picture, (48, 48), interpolation=cv2.INTER_AREA)),
}


@pytest.fixture(scope="module")
def known() -> list[np.ndarray]:
    return _pictures(200, seed=0)


def test_a_series_is_the_picture() -> None:
    (picture,) = _pictures(1, seed=3)
    points = ((np.arange(32) + 0.5) / 32).astype(np.float32)
    drawn = cosines(points) @ cosine_series(_described([picture]))[0] @ cosines(points).T
    grid = cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    frequencies = cv2.dct(grid)
    frequencies[16:], frequencies[:, 16:] = 0, 0
    smooth = cv2.idct(frequencies)
    # Its contrast counts the frequencies that are left out.
    assert np.corrcoef(drawn.ravel(), smooth.ravel())[0, 1] > 0.999
    assert drawn.mean() == pytest.approx(grid.mean(), abs=0.1)
    assert drawn.std() == pytest.approx(grid.std(), rel=0.01)


def test_alignment_finds_the_window() -> None:
    pictures = _pictures(20, seed=4)
    crops = [picture[6:90, 3:87] for picture in pictures]
    start = np.tile(np.array([0.9, 0.1, 0.9, 0], np.float32), (20, 1))
    found = align(cosine_series(_described(crops)), cosine_series(_described(pictures)), start)
    width, left, top = 84 / 96, 3 / 96, 6 / 96
    np.testing.assert_allclose(found.window, [[width, left, width, top]] * 20, atol=0.01)
    assert found.correlation.min() > 0.99
    assert np.abs(found.brightness).max() < 2


@pytest.mark.parametrize("most", [windows.EXACT_PAIRS, 0], ids=["compared", "looked up"])
@pytest.mark.parametrize("name", ALTERATIONS)
def test_altered_copies_are_found_and_nothing_else(
    known: list[np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    most: int,
) -> None:
    monkeypatch.setattr(windows, "EXACT_PAIRS", most)
    kind, alter = ALTERATIONS[name]
    asked = [*_pictures(20, seed=1), *map(alter, known[:20])]
    found = find_copies(_described(asked), _described(known), ALONE, tmp_path)
    assert [(one.asked, one.known) for one in found] == [(20 + i, i) for i in range(20)]
    assert {one.kind for one in found} == {kind}
    assert min(one.similarity for one in found) > 0.97


@pytest.mark.parametrize("most", [windows.EXACT_PAIRS, 0], ids=["compared", "looked up"])
def test_the_known_image_may_be_the_crop(
    known: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(windows, "EXACT_PAIRS", most)
    cut = [picture[8:, :88] for picture in known]
    found = find_copies(_described(known[:20]), _described(cut), ALONE, tmp_path)
    assert [(one.asked, one.known, one.kind) for one in found] == [
        (i, i, "crop") for i in range(20)
    ]


@pytest.mark.parametrize("belonging", [False, True])
def test_several_copies_do_not_hide_each_other(
    known: list[np.ndarray], tmp_path: Path, belonging: bool
) -> None:
    """A copy is compared with the next picture, not with the next copy of the same."""
    burst = [known[0][i : i + 88, i : i + 88] for i in range(0, 8, 2)]
    groups = np.append(ALONE, [7] * 4)
    groups[0] = 7
    if not belonging:
        groups[:] = -1
    found = find_copies(
        _described([known[0][5:, 5:], known[5][5:, 5:]]),
        _described(known + burst),
        groups,
        tmp_path,
    )
    assert [one.asked for one in found] == [0, 1]


def test_what_is_usual_is_no_copy(tmp_path: Path) -> None:
    """Where known images come in pairs as alike, one more of a kind is nothing to tell."""
    kinds = _pictures(100, seed=5)
    rng = np.random.default_rng(6)

    def again(picture: np.ndarray) -> np.ndarray:
        return (picture + rng.normal(0, 12, (12, 12)).repeat(8, 0).repeat(8, 1)).clip(0, 255)

    known = [again(picture).astype(np.uint8) for picture in kinds for _ in range(2)]
    asked = [again(picture).astype(np.uint8) for picture in _pictures(40, seed=7)]
    cut = [picture[:, 9:] for picture in known[:10:2]]
    found = find_copies(_described(asked + cut), _described(known), ALONE, tmp_path)
    assert [one.asked for one in found if one.asked < 40] == []


def test_edges_alone_are_no_copies(tmp_path: Path) -> None:
    """Any bare edge can be laid over any other; brightness and contrast tell them apart."""
    rng = np.random.default_rng(8)
    pictures = []
    for dark, light in rng.uniform(0, 255, (80, 2)):
        picture = np.full((64, 64), dark)
        picture[:, int(rng.integers(20, 44)) :] = light
        pictures.append(picture.astype(np.uint8))
    found = find_copies(_described(pictures[:20]), _described(pictures[20:]), ALONE[:60], tmp_path)
    assert found == []


@pytest.mark.parametrize("crops", [1, 3])
def test_copies_among_the_known_images_do_not_pass_for_usual(
    known: list[np.ndarray], tmp_path: Path, crops: int
) -> None:
    """As where crops were written beside the photos, and all of them split by chance."""
    rng = np.random.default_rng(10)

    def cut(picture: np.ndarray) -> np.ndarray:
        y, x = rng.integers(0, 10, 2)
        return picture[y : y + 87, x : x + 87]

    more = [*known, *(cut(picture) for picture in known[:120] for _ in range(crops))]
    asked = [*_pictures(40, seed=11), *map(cut, known[:20]), *map(cut, known[-20:])]
    found = find_copies(_described(asked), _described(more), np.full(len(more), -1), tmp_path)
    flagged = [one.asked for one in found]
    assert [number for number in flagged if number < 40] == []
    assert len(flagged) >= 36


def test_pictures_of_nothing_are_left_out(known: list[np.ndarray], tmp_path: Path) -> None:
    black = [np.zeros((64, 64), np.uint8)] * 3
    asked = _described([*black, known[1][5:, 5:]])
    (found,) = find_copies(asked, _described([*known[:100], *black]), ALONE[:103], tmp_path)
    assert (found.asked, found.known) == (3, 1)
    nothing = _described(black)
    assert find_copies(nothing, nothing, ALONE[:3], tmp_path) == []
    assert find_copies(nothing[:0], _described(known[:5]), ALONE[:5], tmp_path) == []


def test_two_known_images_are_enough_for_what_is_certain(
    known: list[np.ndarray], tmp_path: Path
) -> None:
    asked = _described([known[0][:, ::-1], known[7]])
    (found,) = find_copies(asked, _described(known[:2]), ALONE[:2], tmp_path)
    assert (found.asked, found.known, found.kind) == (0, 0, "mirrored")


def test_known_images_of_one_group_say_nothing_of_what_is_usual(
    known: list[np.ndarray], tmp_path: Path
) -> None:
    """They are passed over, and an image is never compared with itself."""
    asked = _described([known[3][6:, 6:], *_pictures(5, seed=1)])
    (found,) = find_copies(asked, _described(known[:40]), np.zeros(40, np.int64), tmp_path)
    assert (found.asked, found.known) == (0, 3)


def test_what_was_found_is_kept(
    known: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = _described([picture[5:, 5:] for picture in known[:5]]), _described(known), ALONE
    first = find_copies(*inputs, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(copies, "_find", None)
        assert find_copies(*inputs, tmp_path) == first
    assert len(find_copies(inputs[0][:3], *inputs[1:], tmp_path)) == 3


def test_the_limit_follows_the_ratios_of_strangers() -> None:
    """Of strangers, no more than the stated share lies below, whatever their distribution."""
    rng = np.random.default_rng(9)
    for exponent in (1.5, 3, 8):
        ratios = rng.uniform(0, 1, 4000) ** (1 / exponent)
        limit = ratio_limit(ratios)
        assert 0 < limit <= LARGEST
        assert np.mean(ratios < limit) <= 2 * copies.FALSE_ALARMS
    # Half of them may be copies, if the others tell that they are.
    clean = rng.uniform(0.4, 1, 1000)
    spoiled = np.append(clean, rng.uniform(0, 0.09, 1000))
    assert ratio_limit(spoiled) == ratio_limit(clean) == LARGEST
    assert ratio_limit(np.ones(5)) == CERTAIN
    assert ratio_limit(np.ones(100)) == LARGEST


def test_a_mirror_is_a_change_of_signs() -> None:
    (picture,) = _pictures(1, seed=2)
    plain, mirrored = cosine_series(_described([picture, picture[:, ::-1].copy()]))
    np.testing.assert_allclose(plain * MIRROR, mirrored, atol=0.2)
