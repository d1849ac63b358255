import numpy as np
import pytest
from scipy.stats import beta, norm

from headstart.scoring.beta import quantile, upper_tail


@pytest.mark.parametrize("tail", [0.025, 0.5])
def test_quantiles_and_tails_are_those_of_scipy(tail: float) -> None:
    shapes = np.exp(np.random.default_rng(0).uniform(np.log(0.5), np.log(1e5), (200, 2)))
    found = [quantile(a, b, tail) for a, b in shapes]
    assert found == pytest.approx(beta.isf(tail, *shapes.T), abs=1e-9)
    assert upper_tail(*shapes.T, 0.3) == pytest.approx(beta.sf(0.3, *shapes.T), abs=1e-9)


def test_a_quantile_of_very_large_shapes_keeps_its_digits() -> None:
    expected = norm.isf(0.025) * np.sqrt(0.25 / 2e9)
    assert quantile(1e9, 1e9, 0.025) - 0.5 == pytest.approx(expected, rel=1e-6)
