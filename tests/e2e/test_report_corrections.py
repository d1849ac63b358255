"""The report's part in which people correct the data, in a real browser."""

import csv
import io
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import Select

from headstart.dataset.manifest import Manifest, read_manifest
from tests.e2e.browser import (
    active,
    bring_up,
    click,
    find,
    needs_chromium,
    opened,
    press,
    saved_corrections,
    write_page,
)
from tests.report_run import finish_run, take_care

pytestmark = [pytest.mark.slow, needs_chromium]

NAMES = ('cat, "tabby"', "<b>dog</b>", "고양이")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("care")
    finish_run(root, NAMES, per_class=8, heads={"prototype": {"kind": "prototype"}})
    take_care(root, n_labels=4)
    return write_page(root)


@pytest.fixture(scope="module")
def manifest(page: Path) -> Manifest:
    return read_manifest(page.parent / "data/manifest.csv")


@pytest.fixture(scope="module")
def before(page: Path) -> dict[str, list[str]]:
    """What the run was made with, as the page saves it again."""
    lines = _table((page.parent / "data/corrections.csv").read_text(encoding="utf-8"))
    # A note that a spreadsheet would compute gets an apostrophe.
    assert lines["0" * 64] == ["drop", "", "=1+1"]
    return {**lines, "0" * 64: ["drop", "", "'=1+1"]}


def _table(text: str) -> dict[str, list[str]]:
    header, *lines = csv.reader(io.StringIO(text))
    assert header == ["sha256", "action", "label", "note"]
    return {line[0]: line[1:] for line in lines}


def _focus(browser: WebDriver) -> None:
    panel = find(browser, "#look-panel")
    bring_up(browser, panel)
    browser.execute_script("arguments[0].focus({preventScroll: true})", panel)


def _act(browser: WebDriver, name: str) -> None:
    click(browser, find(browser, f"#look-panel [data-act={name}]"))


def _shown(browser: WebDriver) -> tuple[str, str]:
    """Return the path of the suspect that is shown and what is decided on it."""
    return find(browser, ".suspect figcaption").text, find(browser, ".where .tag").text


def _suspects(page: Path) -> list[list[str]]:
    """Return the lines of data/audit.csv that are of images, in the order of the page."""
    lines = csv.reader((page.parent / "data/audit.csv").read_text(encoding="utf-8").splitlines())
    return [line for line in list(lines)[1:] if line[1]]


def test_by_keyboard_alone_each_suspect_is_decided_and_the_next_comes(
    browser: WebDriver, page: Path, tmp_path: Path, before: dict[str, list[str]]
) -> None:
    suspects = _suspects(page)
    with opened(browser, page):
        # A class's name on the page is a text, whatever it looks like.
        assert [one.text for one in browser.find_elements(By.CSS_SELECTOR, ".claim strong")] == [
            suspects[0][4],
            suspects[0][5],
        ]
        press(browser, "k")
        assert _shown(browser) == (suspects[0][1], "not decided"), "no focus, no decision"
        _focus(browser)
        press(browser, "k")
        assert _shown(browser)[0] == suspects[1][1]
        press(browser, "r")
        press(browser, "d")
        assert "3 of 6 images decided" in find(browser, "#look-save").text
        press(browser, "u")
        assert _shown(browser) == (suspects[2][1], "not decided")
        press(browser, Keys.ARROW_UP)
        assert _shown(browser) == (suspects[1][1], f"→ {suspects[1][5]}")
        press(browser, "j", Keys.ARROW_DOWN)
        assert _shown(browser)[0] == suspects[3][1]
        assert active(browser).get_attribute("id") == "look-panel"
        # The same key in another script, as a Hangul keyboard sends it.
        browser.execute_script(
            "arguments[0].dispatchEvent(new KeyboardEvent('keydown', "
            "{key: 'ㅇ', code: 'KeyD', bubbles: true}))",
            find(browser, "#look-panel"),
        )
        found = _table(saved_corrections(browser, tmp_path))
    assert found == {
        **before,
        suspects[0][0]: ["keep", "", ""],
        suspects[1][0]: ["relabel", suspects[1][5], ""],
        suspects[3][0]: ["drop", "", ""],
    }


def test_by_mouse_to_any_class_with_a_note(
    browser: WebDriver, page: Path, tmp_path: Path, manifest: Manifest
) -> None:
    suspects = _suspects(page)
    new, note = 'lynx, "young"', "=HYPERLINK(1)"
    with opened(browser, page):
        select = Select(find(browser, "#look-panel select"))
        assert suspects[0][4] not in [option.get_attribute("value") for option in select.options]
        other = next(
            name for name in manifest.class_names if name not in (suspects[0][4], suspects[0][5])
        )
        select.select_by_value(other)
        _act(browser, "relabel")
        find(browser, "#look-panel [data-act=new]").send_keys(new)
        find(browser, "#look-panel [data-act=note]").send_keys(note)
        _act(browser, "relabel")
        # Keys decide nothing while somebody writes.
        find(browser, "#look-panel [data-act=note]").send_keys("kdr")
        press(browser, Keys.ESCAPE, Keys.ARROW_UP)
        assert _shown(browser) == (suspects[1][1], f"→ {new}")
        found = _table(saved_corrections(browser, tmp_path))
        assert "prepare" in find(browser, "#look-save .next").text
    assert found[suspects[0][0]] == ["relabel", other, ""]
    assert found[suspects[1][0]] == ["relabel", new, f"'{note}"]
    assert suspects[2][0] not in found


def test_decisions_outlast_a_reload_and_another_language(browser: WebDriver, page: Path) -> None:
    suspects = _suspects(page)
    with opened(browser, page):
        _act(browser, "drop")
        browser.refresh()
        assert _shown(browser)[0] == suspects[1][1], "the first that is left to decide"
        assert "1 of 6 images decided" in find(browser, "#look-save").text
        find(browser, "#language").click()
        text = find(browser, "#look").text
        for english in ("Keep", "decided", "label", "Note", "corrections this", "Drop"):
            assert english not in text
        assert "유지" in text
        click(browser, find(browser, "#look-work .strip .card.done"))
        assert _shown(browser) == (suspects[0][1], "✗ 제외")


def test_a_correction_from_before_can_be_taken_out_and_put_back(
    browser: WebDriver,
    page: Path,
    tmp_path: Path,
    before: dict[str, list[str]],
    manifest: Manifest,
) -> None:
    dropped = "0" * 64
    with opened(browser, page):
        click(browser, find(browser, "#look-before summary"))
        click(browser, find(browser, f"[data-before='{dropped}']"))
        assert active(browser).text == "Put back"
        found = _table(saved_corrections(browser, tmp_path))
        assert found == {sha256: one for sha256, one in before.items() if sha256 != dropped}
        click(browser, find(browser, f"[data-before='{dropped}']"))
        again = _table(saved_corrections(browser, tmp_path))
    assert again == before


def test_any_image_of_the_page_can_be_corrected(
    browser: WebDriver, page: Path, tmp_path: Path, manifest: Manifest
) -> None:
    with opened(browser, page):
        card = browser.find_elements(By.CSS_SELECTOR, "#samples .card")[3]
        path = card.get_attribute("title")
        click(browser, card)
        body = find(browser, "#picture-dialog .body")
        body.find_element(By.CSS_SELECTOR, "summary").click()
        body.find_element(By.CSS_SELECTOR, "[data-act=drop]").click()
        assert "drop" in body.find_element(By.CSS_SELECTOR, ".correct p").text
        press(browser, Keys.ESCAPE)
        found = _table(saved_corrections(browser, tmp_path))
    sha256 = next(row.sha256 for row in manifest if row.path == path)
    assert found[sha256] == ["drop", "", ""]


def test_without_an_audit_one_sentence_says_how_to_make_one(
    browser: WebDriver, page: Path, tmp_path: Path
) -> None:
    root = page.parent
    for name in ("data/audit.csv", "metrics/audit.json", "data/corrections.csv"):
        (root / name).rename(tmp_path / Path(name).name)
    try:
        bare = write_page(root, "bare.html")
    finally:
        for name in ("data/audit.csv", "metrics/audit.json", "data/corrections.csv"):
            (tmp_path / Path(name).name).rename(root / name)
    with opened(browser, bare):
        assert "audit.suspects: 200" in find(browser, "#look").text
        assert not browser.find_elements(By.CSS_SELECTOR, "#look-panel, #save-corrections")
