"""What there is to know about a backbone at one image size."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CutFacts:
    """A place where features can be taken or training can begin.

    Attributes:
        name: Its name.
        multiply_adds_below: Per image, up to the cut.
        parameters_above: Number of parameters of the layers after it.
    """

    name: str
    multiply_adds_below: int
    parameters_above: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFacts:
    """A backbone at one image size.

    Attributes:
        multiply_adds: Per image, of the whole backbone.
        parameters: Number of parameters of the whole backbone.
        blocks: Where its blocks begin, from the top down.
        last: The last feature layer.
        forward_seconds: Time of one image's pass through all of it, in batches as in training.
    """

    multiply_adds: int
    parameters: int
    blocks: tuple[CutFacts, ...]
    last: str
    forward_seconds: float

    def probed(self, shares: tuple[float, ...]) -> tuple[str, ...]:
        """Return the last layer and the block starts nearest to shares of the multiply-adds."""
        names = [self.last]
        for share in shares:
            wanted = share * self.multiply_adds
            nearest = min(
                self.blocks, key=lambda cut: abs(cut.multiply_adds_below - wanted), default=None
            )
            if nearest is not None:
                names.append(nearest.name)
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingTime:
    """How long training takes of a part of a backbone.

    Attributes:
        start_seconds: Until the first step is done: building and tracing.
        image_seconds: Of one image's share of a step.
        learning: Share of the parameters up to the cut that are trained.
    """

    start_seconds: float
    image_seconds: float
    learning: float
