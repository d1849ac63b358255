import pytest

from headstart.dataset.splits import Sample, choose_share

SAMPLES = [
    Sample(f"{number:064x}", label, number, split)
    for number, (label, split) in enumerate(
        [("cat", "train")] * 100 + [("dog", "train")] * 30 + [("dog", "test")] * 10
        + [("rare", "train")] * 3
    )
]  # fmt: skip


def count(positions: list[int], label: str, split: str) -> int:
    return sum(SAMPLES[i].label == label and SAMPLES[i].split == split for i in positions)


def test_every_class_and_split_keeps_its_share_and_two_images_at_least() -> None:
    chosen = choose_share(SAMPLES, 0.1)
    assert count(chosen, "cat", "train") == 10
    assert count(chosen, "dog", "train") == 3
    assert count(chosen, "dog", "test") == 2
    assert count(chosen, "rare", "train") == 2


@pytest.mark.parametrize(("small", "large"), [(0.1, 0.316), (0.316, 0.5), (0.5, 1.0)])
def test_shares_are_nested(small: float, large: float) -> None:
    assert set(choose_share(SAMPLES, small)) < set(choose_share(SAMPLES, large))


def test_content_alone_decides() -> None:
    renumbered = [sample._replace(bundle=7) for sample in reversed(SAMPLES)]
    chosen = {SAMPLES[i].sha256 for i in choose_share(SAMPLES, 0.3)}
    assert {renumbered[i].sha256 for i in choose_share(renumbered, 0.3)} == chosen


def test_all_is_all() -> None:
    assert choose_share(SAMPLES, 1.0) == list(range(len(SAMPLES)))


def test_two_images_are_of_two_bundles_where_there_are() -> None:
    burst = [sample._replace(bundle=1) for sample in SAMPLES[:40]]
    for other in range(40):
        samples = [*burst[:other], burst[other]._replace(bundle=2), *burst[other + 1 :]]
        small, large = choose_share(samples, 0.02), choose_share(samples, 0.1)
        assert len(small) == 2
        assert other in small
        assert set(small) < set(large)
    assert len(choose_share(burst, 0.02)) == 2
