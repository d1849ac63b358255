import os

from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.common.text import counted, printable, printable_lines


def test_what_a_terminal_would_obey_is_shown() -> None:
    assert printable("a\x1b[2Jb") == r"a\x1b[2Jb"
    assert printable("a\nb\tc\rd\x07\x7f") == r"a\nb\tc\rd\x07\x7f"
    assert printable("\x9b31m\u2028\u2029") == r"\x9b31m\u2028\u2029"
    assert printable("gpj.\u202egnp") == r"gpj.\u202egnp"
    assert printable(os.fsdecode(b"caf\xe9.jpg")) == r"caf\xe9.jpg"
    assert printable("\ud800") == r"\ud800"


def test_what_people_write_stays() -> None:
    for text in ("고양이 사진.jpg", "Grüße, naïve", "نمونه‌ها", "👩‍🔬", "C:\\x1b", "a\u00a0b"):
        assert printable(text) == text


def test_one_is_counted_as_one() -> None:
    assert [counted(n, "epoch") for n in (0, 1, 1200)] == ["0 epochs", "1 epoch", "1,200 epochs"]
    assert [counted(n, "copy", "copies") for n in (1, 2)] == ["1 copy", "2 copies"]


def test_a_message_keeps_its_lines() -> None:
    assert printable_lines("error:\n  a\x1b: no\n") == "error:\n  a\\x1b: no\n"


@settings(deadline=None, max_examples=200, derandomize=True, database=None)
@given(st.text(st.characters(codec=None)))
def test_any_text_becomes_one_line_that_can_be_encoded(text: str) -> None:
    shown = printable(text)
    shown.encode()
    assert len(shown.splitlines()) <= 1
    assert printable(shown) == shown
