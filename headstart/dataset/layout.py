"""Which numbers describe a picture, and in which order."""

import numpy as np

GRID = 32
"""Side of the small gray picture whose cosine transform is taken."""

FREQUENCIES = 16
"""Of them in each direction, from 0 up, those that are kept."""

LENGTH = FREQUENCIES**2 - 1
"""All but the mean; they make a vector of length 1."""

DESCRIPTION_LENGTH = LENGTH + 2
"""With the mean and the standard deviation in gray levels behind them."""

# Frequencies from low to high, so that the first ones carry the most; the mean is left out.
_ROWS, _COLUMNS = np.indices((FREQUENCIES, FREQUENCIES)).reshape(2, -1)
_ORDER = np.lexsort((_ROWS, _ROWS + _COLUMNS))[1:]
ROWS, COLUMNS = _ROWS[_ORDER], _COLUMNS[_ORDER]
