"""What a disk or an editor may do to a file, as a strategy of hypothesis."""

from hypothesis import strategies as st


@st.composite
def mutations(draw: st.DrawFn, data: bytes) -> bytes:
    """Give other bytes: some flipped, cut off, added, zeroed, or two ranges swapped."""
    kind = draw(st.sampled_from(["flip", "cut", "extend", "zero", "swap"]))
    start = draw(st.integers(0, len(data) - 1))
    length = draw(st.integers(1, 600))
    changed = bytearray(data)
    match kind:
        case "flip":
            for position in range(start, min(start + draw(st.integers(1, 3)), len(data))):
                changed[position] ^= draw(st.integers(1, 255))
        case "cut":
            del changed[start:]
        case "extend":
            changed += draw(st.binary(min_size=1, max_size=40))
        case "zero":
            stop = min(start + length, len(data))
            changed[start:stop] = bytes(stop - start)
        case "swap":
            other = draw(st.integers(0, len(data) - 1))
            first, second = sorted((start, other))
            length = min(length, second - first, len(data) - second)
            one, two = changed[first : first + length], changed[second : second + length]
            changed[first : first + length], changed[second : second + length] = two, one
    return bytes(changed)
