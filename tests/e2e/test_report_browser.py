"""The report in a real browser: what it shows, and how people move in it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import Select

from tests.e2e.browser import (
    NAMES,
    NARROW,
    WIDE,
    active,
    bring_up,
    click,
    find,
    needs_chromium,
    opened,
    press,
    tap,
    touched,
    wait,
    write_page,
)
from tests.report_run import HEADS, finish_run, take_care

pytestmark = [pytest.mark.slow, needs_chromium]

# Contrast of every text on the page against the color behind it. Source: WCAG 2.2, relative
# luminance and contrast ratio. Colors are painted to be read, since they come in many notations.
CONTRASTS = """
const context = Object.assign(document.createElement("canvas"), {width: 1, height: 1})
  .getContext("2d", {willReadFrequently: true});
const rgba = (...layers) => {
  context.clearRect(0, 0, 1, 1);
  for (const layer of layers) { context.fillStyle = layer; context.fillRect(0, 0, 1, 1); }
  return [...context.getImageData(0, 0, 1, 1).data];
};
const luminance = (color) => color.slice(0, 3).map((value) => value / 255)
  .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
  .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
const found = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!own || !element.checkVisibility()) continue;
  if (element.closest("script, svg, option, .skip, .empty")) continue;
  const layers = [];
  for (let place = element; place; place = place.parentElement) {
    layers.unshift(getComputedStyle(place).backgroundColor);
  }
  const behind = luminance(rgba(...layers));
  const text = luminance(rgba(...layers, getComputedStyle(element).color));
  found.push([(Math.max(behind, text) + 0.05) / (Math.min(behind, text) + 0.05),
    element.tagName + "." + element.className + ": " + element.textContent.trim().slice(0, 40)]);
}
return found;
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("nasty")
    finish_run(root, NAMES, per_class=20, spread=0.4)
    take_care(root)
    return write_page(root)


def test_the_head_of_the_page_leads_to_the_parameters(browser: WebDriver, page: Path) -> None:
    with opened(browser, page):
        assert find(browser, "#overview .run dd").text == "data/samples/faces"
        assert browser.title == "data/samples/faces – Headstart report"
        params = find(browser, "#params")
        assert not params.is_displayed()
        click(browser, find(browser, "#overview .run a"))
        wait(browser, params.is_displayed)
        assert "min_validation: 1\n" in params.text


def test_on_a_phone_a_tap_does_what_pointing_does(browser: WebDriver, page: Path) -> None:
    with opened(browser, page, width=NARROW), touched(browser):
        tap(browser, find(browser, "#chart-map .scatterlayer .point"))
        wait(browser, find(browser, "#picture-dialog").is_displayed)
        press(browser, Keys.ESCAPE)
        tap(browser, find(browser, "#chart-scores .scatterlayer .point"))
        wait(browser, lambda: find(browser, "#chart-scores .hoverlayer").text)
        keys = browser.find_elements(By.TAG_NAME, "kbd")
        assert keys
        assert not any(key.is_displayed() for key in keys), "there is no keyboard"


def test_on_a_phone_tables_scroll_and_break_no_word(browser: WebDriver, tmp_path: Path) -> None:
    """A word that is broken leaves boxes on several lines."""
    names = ("Labrador", "Dachshund", "Chihuahua", "닥스훈트 강아지", "Pomeranian")
    finish_run(tmp_path, names, per_class=8)
    with opened(browser, write_page(tmp_path), width=NARROW):
        table = find(browser, "#scores .scroll")
        wider = "return arguments[0].scrollWidth - arguments[0].clientWidth"
        assert browser.execute_script(wider, table) > 0
        style = browser.execute_script("return getComputedStyle(arguments[0]).background", table)
        assert style.count("gradient") >= 4, "shadows say that there is more"
        lines = """
        const range = document.createRange();
        range.selectNodeContents(arguments[0]);
        return new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size
        """
        shown = browser.find_elements(By.CSS_SELECTOR, ".matrix th.name > span, #data th.name")
        assert len(shown) == 15
        for one in shown:
            assert browser.execute_script(lines, one) <= len(one.text.split()), one.text


def test_draws_everything_and_asks_nothing_of_the_network(browser: WebDriver, page: Path) -> None:
    with opened(browser, page):
        assert len(browser.find_elements(By.CSS_SELECTOR, ".chart .main-svg")) >= 5
        sections = [
            part.get_attribute("id") for part in browser.find_elements(By.TAG_NAME, "section")
        ]
        assert sections == [
            "overview", "data", "look", "pipeline", "scores", "curves", "confusion",
            "groups", "operating", "map", "neighbors", "heat", "comparison", "about",
        ]  # fmt: skip
        broken = (
            "return [...document.images].filter((one) => one.complete && !one.naturalWidth).length"
        )
        assert browser.execute_script(broken) == 0
        # A class of this name would have opened an alert, had it become markup.
        assert find(browser, "#data tbody th").text == NAMES[2]


def test_a_confusion_cell_opens_its_images(browser: WebDriver, page: Path) -> None:
    with opened(browser, page):
        cell = find(browser, ".cell.wrong")
        count = int(cell.text.split()[0])
        click(browser, cell)
        dialog = find(browser, "#list-dialog")
        assert dialog.is_displayed()
        assert "taken for" in find(browser, "#list-title").text
        cards = dialog.find_elements(By.CSS_SELECTOR, ".card")
        assert len(cards) == count
        cards[0].click()
        body = find(browser, "#picture-dialog .body")
        assert body.is_displayed()
        assert len(body.find_elements(By.CSS_SELECTOR, ".judged > div")) == len(HEADS)
        assert len(body.find_elements(By.CSS_SELECTOR, ".gallery .card")) == 6
        press(browser, Keys.ESCAPE)
        assert not find(browser, "#picture-dialog").is_displayed()
        press(browser, Keys.ESCAPE)
        assert not dialog.is_displayed()
        assert active(browser) == cell


def test_another_head_has_its_own_mistakes(browser: WebDriver, page: Path) -> None:
    with opened(browser, page):
        told = {}
        for name in HEADS:
            Select(find(browser, "#head")).select_by_value(name)
            wrong = browser.find_elements(By.CSS_SELECTOR, ".cell.wrong")
            told[name] = sum(int(cell.text.split()[0]) for cell in wrong)
            shown = browser.find_elements(By.CSS_SELECTOR, "#mistakes .card")
            assert len(shown) == min(told[name], 12)
        assert len(told) == 2


def test_it_can_be_used_without_a_mouse(browser: WebDriver, page: Path) -> None:
    with opened(browser, page):
        press(browser, Keys.TAB)
        assert active(browser).get_attribute("class") == "skip"
        press(browser, Keys.ENTER, Keys.TAB)
        assert browser.execute_script("return !!document.activeElement.closest('main')")
        cell = find(browser, ".cell")
        browser.execute_script("arguments[0].focus()", cell)
        press(browser, Keys.ENTER)
        assert find(browser, "#list-dialog").is_displayed()
        press(browser, Keys.ESCAPE)
        assert active(browser) == cell
        place = find(browser, "#chart-map")
        bring_up(browser, place)
        browser.execute_script("arguments[0].focus({preventScroll: true})", place)
        press(browser, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
        assert find(browser, "#tip img").is_displayed()
        assert find(browser, "#map-live").get_attribute("textContent")
        press(browser, Keys.ENTER)
        assert find(browser, "#picture-dialog").is_displayed()
        press(browser, Keys.ESCAPE)


def test_a_point_of_the_map_shows_its_image(browser: WebDriver, page: Path) -> None:
    with opened(browser, page):
        place = find(browser, "#chart-map")
        bring_up(browser, place)
        point = place.find_elements(By.CSS_SELECTOR, ".scatterlayer .point")[3]
        ActionChains(browser).move_to_element(point).perform()
        tip = wait(browser, lambda: find(browser, "#tip img"))
        assert tip.get_attribute("src").startswith("data:image/webp")
        ActionChains(browser).click().perform()
        wait(browser, find(browser, "#picture-dialog").is_displayed)
        press(browser, Keys.ESCAPE)
        find(browser, "#projection input[value=tsne]").click()
        wait(browser, lambda: "t-SNE" in find(browser, "#map-note").text)
        Select(find(browser, "#color")).select_by_value("verdict")
        wait(browser, lambda: "test, wrong" in place.text)


def test_another_test_image_has_other_neighbors(browser: WebDriver, page: Path) -> None:
    with opened(browser, page):
        before = find(browser, "#neighbors-shown").text
        second = browser.find_elements(By.CSS_SELECTOR, "#neighbors-choose .card")[1]
        click(browser, second)
        assert second.get_attribute("aria-pressed") == "true"
        assert find(browser, "#neighbors-shown").text != before
        assert len(browser.find_elements(By.CSS_SELECTOR, "#neighbors-shown .card")) == 6


def test_heat_maps_lie_on_the_image_as_strongly_as_wished(browser: WebDriver, page: Path) -> None:
    with opened(browser, page):
        canvas = find(browser, "#heat-shown canvas")
        assert canvas.get_attribute("width") == "4"
        slider = find(browser, "#strength")
        click(browser, slider)
        slider.send_keys(Keys.HOME)
        assert canvas.value_of_css_property("opacity") == "0"


def test_everything_is_korean_at_a_click(browser: WebDriver, page: Path) -> None:
    with opened(browser, page):
        assert find(browser, "html").get_attribute("lang") == "en"
        find(browser, "#language").click()
        assert find(browser, "html").get_attribute("lang") == "ko"
        assert find(browser, "#data h2").text == "데이터"
        assert browser.title == "data/samples/faces – Headstart 보고서"
        wait(browser, lambda: "주성분" in find(browser, "#chart-map").text)
        text = find(browser, "main").text
        for english in ("Predicted", "images", "Show", "Class", "selected"):
            assert english not in text
        browser.refresh()
        assert find(browser, "html").get_attribute("lang") == "ko"


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_nothing_is_wider_than_the_screen(browser: WebDriver, page: Path, width: int) -> None:
    with opened(browser, page, width=width):
        for _ in ("English", "Korean"):
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
            find(browser, "#language").click()


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_stands_out_from_its_background(
    browser: WebDriver, page: Path, dark: bool
) -> None:
    with opened(browser, page, dark=dark):
        contrasts = browser.execute_script(CONTRASTS)
        assert len(contrasts) > 200
        assert min(contrasts)[0] >= 4.5, min(contrasts)


def test_light_and_dark_follow_the_system_and_the_button(
    browser: WebDriver, page: Path, tmp_path: Path
) -> None:
    def brightness() -> float:
        shot = tmp_path / "shot.png"
        assert browser.save_screenshot(str(shot))
        return float(np.asarray(Image.open(shot).convert("L")).mean())

    with opened(browser, page, dark=True):
        assert brightness() < 70
        find(browser, "#theme").click()
        assert brightness() > 200
        browser.refresh()
        assert brightness() > 200
    with opened(browser, page):
        assert brightness() > 200


def test_sixty_classes_have_a_matrix_too(browser: WebDriver, tmp_path: Path) -> None:
    names = [f"kind {index}" for index in range(60)]
    heads = {"prototype": {"kind": "prototype"}}
    finish_run(tmp_path, names, per_class=4, spread=0.1, heads=heads)
    many = write_page(tmp_path)
    with opened(browser, many, width=NARROW):
        assert find(browser, "#chart-matrix .heatmaplayer image").is_displayed()
        pair = find(browser, ".confused button")
        click(browser, pair)
        assert find(browser, "#list-dialog .card").is_displayed()
        press(browser, Keys.ESCAPE)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= NARROW
