"""Text as a terminal may show it."""

import re

_BIDIRECTIONAL = "\u202a-\u202e\u2066-\u2069"
_UNPRINTABLE = re.compile(f"[\x00-\x1f\x7f-\x9f\u2028\u2029{_BIDIRECTIONAL}\ud800-\udfff]")


def printable(text: object) -> str:
    r"""Return a text in one line that a terminal shows and does not obey.

    Control characters, line and paragraph separators, bidirectional embeddings and overrides and
    lone surrogates become escapes such as \x1b, \n and \u202e; a byte of a file name that is no
    UTF-8 becomes that byte, such as \xe9. What people write, in any script, stays.

    Args:
        text: A name of a file, class or head, or what `str` makes of it.
    """
    return _UNPRINTABLE.sub(_escape, str(text))


def printable_lines(text: str) -> str:
    r"""Return a message as `printable` does, line by line: its own newlines are meant."""
    return "\n".join(map(printable, text.split("\n")))


def counted(count: int, noun: str, several: str = "") -> str:
    """Return how many of what: "1 epoch", "1,200 epochs".

    Args:
        count: How many.
        noun: For one.
        several: For any other number; the noun with an s when empty.
    """
    return f"{count:,} {noun if count == 1 else several or noun + 's'}"


def _escape(found: re.Match[str]) -> str:
    letter = found.group()
    # Bytes of a name that are no UTF-8 arrive as the surrogates U+DC80 to U+DCFF.
    code = ord(letter) - 0xDC00 if "\udc80" <= letter <= "\udcff" else ord(letter)
    if letter in "\t\n\r":
        return repr(letter)[1:-1]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
