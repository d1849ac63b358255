"""What users see of a table where there is little room."""

from headstart.commands.tables import Column, fit, wrapped

COLUMNS = [
    Column("candidate", ["EfficientNetLite0, layer=block_3", "고양이"], right=False),
    Column("model", ["logistic", "gap"], right=False, spare=1),
    Column("test", ["0.900", "1.000"]),
    Column("MB", ["13.7", "4.0"], spare=2),
]


def shown(width: int | None, names: int = 0) -> tuple[list[str], list[str]]:
    table = fit(COLUMNS, width, names=names)
    return [line.plain for line in table.lines], table.left_out


def test_a_file_gets_every_column() -> None:
    lines, left_out = shown(None)
    assert lines == [
        "candidate                         model      test    MB",
        "───────────────────────────────────────────────────────",
        "EfficientNetLite0, layer=block_3  logistic  0.900  13.7",
        # A Hangul syllable is two cells wide.
        "고양이                            gap       1.000   4.0",
    ]
    assert left_out == []


def test_what_is_least_needed_goes_first_and_is_named() -> None:
    lines, left_out = shown(50)
    assert left_out == ["MB"]
    assert lines[2] == "EfficientNetLite0, layer=block_3  logistic  0.900"
    assert shown(40)[1] == ["model", "MB"]


def test_a_name_that_does_not_fit_gets_a_line_of_its_own() -> None:
    lines, _ = shown(30)
    assert lines == [
        "candidate",
        "   test",
        "───────",
        "EfficientNetLite0, layer=block_3",
        "  0.900",
        "고양이",
        "  1.000",
    ]


def test_rows_may_be_named_by_another_column() -> None:
    table = fit([Column("score", ["0.9"]), Column("image", ["a/long/path.jpg"])], 10, names=1)
    assert [line.plain for line in table.lines] == [
        "image", "  score", "───────", "a/long/path.jpg", "    0.9",
    ]  # fmt: skip


def test_sentences_are_broken_between_words_only() -> None:
    text = "take over: `dvc exp apply compare-EfficientNetLite0-123456`"
    assert wrapped(text, None) == text
    assert wrapped(text, 30).splitlines() == [
        "take over: `dvc exp apply",
        "  compare-EfficientNetLite0-123456`",
    ]
