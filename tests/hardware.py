"""What this machine can do."""

import pytest

from headstart.common.errors import InputError
from headstart.common.vocabulary import Precision
from headstart.extraction import engines


def needs_precision(precision: Precision, engine: engines.EngineName | None = None) -> None:
    """Skip the test, saying why, where the processor does not compute in that precision.

    Float32 is everywhere, so that what else may be wrong is not taken for a lack of hardware.
    """
    name = engine or "auto"
    engines.resolve(name, "float32")
    try:
        engines.resolve(name, precision)
    except InputError as error:
        pytest.skip(str(error))
