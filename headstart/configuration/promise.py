"""A promise about a score, such as `recall.cat >= 0.8`: read, never evaluated."""

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self, get_args

Operator = Literal[">=", "<=", ">", "<"]

_COMPARISONS: dict[Operator, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
# The last operator counts: the name of a class may hold one.
_FORM = re.compile(r"\s*(?P<name>.*\S)\s*(?P<operator>>=|<=|>|<)\s*(?P<number>[^<>=]+?)\s*")


@dataclass(frozen=True, slots=True)
class Promise:
    """What a score must be.

    Attributes:
        text: As it was written.
        name: Of the score.
        operator: How it compares with the limit.
        limit: The number.
    """

    text: str
    name: str
    operator: Operator
    limit: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read NAME OPERATOR NUMBER.

        Raises:
            ValueError: it is something else.
        """
        found = _FORM.fullmatch(text)
        limit = _number(found["number"]) if found else None
        if found is None or limit is None:
            raise ValueError(
                f"expected a score, one of {', '.join(get_args(Operator))} and a number, "
                "such as `accuracy >= 0.9`"
            )
        sign = next(one for one in _COMPARISONS if one == found["operator"])
        return cls(text.strip(), found["name"].strip(), sign, limit)

    def holds(self, value: float, interval: tuple[float, float] | None) -> bool:
        """Return whether a score keeps it: all of its interval, where there is one."""
        low, high = interval or (value, value)
        worst = low if self.operator in (">=", ">") else high
        return _COMPARISONS[self.operator](worst, self.limit)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
