"""What holds the pages to the truth, held to it itself."""

from pathlib import Path

import pytest

from docs.make import renewed
from docs.sandbox import Home
from docs.transcripts import agrees, blocks, state, steps
from tests.docs.running import complaints

TABLE = " head         test   log loss\n ───────────\n gap *       0.975      0.047\n"


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        (TABLE, TABLE.replace("0.047", "0.061")),
        ("600 computed, 0 reused, 8.8 s", "600 computed, 0 reused, 41 s"),
        ("a\n...\nd", "a\nb\nc\nd"),
        ("100 photos, ...", "100 photos, 3 wrong"),
        ("on commit 1a2b3c4", "on commit 99ffee0"),
    ],
)
def test_what_may_differ(shown: str, printed: str) -> None:
    assert agrees(shown, printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        (TABLE, TABLE.replace("0.975", "0.500")),
        (TABLE, TABLE.replace("gap", "dense")),
        ("600 computed, 0 reused", "599 computed, 0 reused"),
        ("a\n...\nd", "a\nb\nc"),
        ("100 photos, ...", "99 photos, 3 wrong"),
        ("one line", "one line\nand another"),
        ("one line", ""),
    ],
)
def test_what_may_not(shown: str, printed: str) -> None:
    assert not agrees(shown, printed)


def test_without_the_photos_only_what_they_decide_may_differ() -> None:
    other = " head         test   log loss\n gap         0.610      0.690\n"
    assert agrees(TABLE, other, as_shown=False)
    assert not agrees(TABLE, other.replace("log loss", "loss"), as_shown=False)
    assert not agrees("a: 1\nb: 2", "a: 3", as_shown=False)
    assert not agrees("a: 1\n...", "b: 1\nc", as_shown=False)


PAGE = """<!-- state: photos, VGG16 -->
# Page

```console
$ echo one
one
$ printf 'two\\nlines\\n' |
> sort
lines
two
```

```yaml
# params.yaml
extract: {share: 0.5}
```

<!-- not run: needs a GPU -->
```console
$ nvidia-smi
```

```python
>>> sum([1,
...      2])
3
```
"""


def test_a_page_is_read_block_by_block() -> None:
    assert state(PAGE) == ["photos", "VGG16"]
    kinds = [(block.kind, block.mark, block.reason) for block in blocks(PAGE)]
    assert kinds == [
        ("console", None, None),
        ("file", None, None),
        ("console", "not run", "needs a GPU"),
        ("examples", None, None),
    ]
    first, *_, last = blocks(PAGE)
    assert [step.shown for step in steps(first)] == ["one", "lines\ntwo"]
    assert [step.source for step in steps(last)] == ["sum([1,\n     2])"]


WRONG = """# Page

```console
$ echo one
two
$ cd /
$ false
$ pwd
/
```

<!-- fails -->
```console
$ echo before
before
$ exit 0 2>/dev/null; true
```

```python
>>> 1 + 1
3
>>> undefined
1
```
"""


def test_a_page_that_does_not_show_what_happens_is_told(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(WRONG.replace("exit 0 2>/dev/null; ", ""))
    found = complaints(tmp_path / "page.md", tmp_path)
    assert len(found) == 5
    for told, expected in zip(
        found,
        (
            "--- printed\none",
            "`false`: exit status 1",
            "`true`: exit status 0",
            "printed\n2",
            "Name",
        ),
        strict=True,
    ):
        assert expected in told


def test_output_is_renewed_where_it_does_not_agree(tmp_path: Path) -> None:
    page = "# Page\n\n```console\n$ echo one\ntwo\n$ seq 3\n1\n...\n3\n```\n\nText.\n"
    outcomes = Home(tmp_path / "kim").run(page)
    assert renewed(page, outcomes) == page.replace("two", "one")
