"""The report in a real browser: Debian's Chromium, driven by its own chromedriver."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from headstart.report.collecting import collect
from headstart.report.options import ReportOptions
from headstart.report.rendering import render
from headstart.report.results import RunPlaces, read_results
from tests.report_run import HEADS, finish_run, spatial

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER),
        reason="Chromium is not installed (Debian: apt-get install chromium chromium-driver)",
    ),
]

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--lang=en-US",
)  # fmt: skip
NAMES = ("<img src=x onerror=alert(1)>", "고양이", "</script><script>alert(2)</script>", "dog")
WIDE, NARROW = 1280, 390

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


def write_page(root: Path, names: Sequence[str], **more: Any) -> Path:
    finish_run(root, names, **more)
    with chdir(root):
        where = RunPlaces(comparison=Path("plots/comparison.json"))
        results = read_results(where)

        def maps(images: Sequence[int]) -> np.ndarray:
            return np.stack([spatial(Path(results.manifest.rows[image].path)) for image in images])

        options = ReportOptions(seed=0, pictures=600, heat_maps=6, projections=["pca", "tsne"])
        page = root / "index.html"
        page.write_text(render(collect(where, results, options, maps)), encoding="utf-8")
    return page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(tmp_path_factory.mktemp("nasty"), NAMES, per_class=20, spread=0.4)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


@contextmanager
def opened(
    browser: WebDriver, page: Path, *, width: int = WIDE, dark: bool = False
) -> Iterator[WebDriver]:
    """Open the page afresh; when the block is left, nothing may have complained or called out."""
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme]})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())
    wait(browser, lambda: not browser.find_elements(By.CSS_SELECTOR, ".chart:not(.drawn)"))
    yield browser
    browser.execute_script("localStorage.clear()")
    assert [entry["message"] for entry in browser.get_log("browser")] == []
    assert requests(browser) <= {page.as_uri()}


def requests(browser: WebDriver) -> set[str]:
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return {
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
        and not message["params"]["request"]["url"].startswith("data:")
    }


def wait(browser: WebDriver, condition: Callable[[], Any]) -> Any:
    return WebDriverWait(browser, 30, 0.1).until(lambda _: condition())


def find(browser: WebDriver, selector: str) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, selector)


def press(browser: WebDriver, *keys: str) -> None:
    ActionChains(browser).send_keys(*keys).perform()


def active(browser: WebDriver) -> WebElement:
    return browser.switch_to.active_element


def bring_up(browser: WebDriver, element: WebElement) -> None:
    script = "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})"
    browser.execute_script(script, element)


def click(browser: WebDriver, element: WebElement) -> None:
    bring_up(browser, element)
    element.click()


def test_draws_everything_and_asks_nothing_of_the_network(browser: WebDriver, page: Path) -> None:
    with opened(browser, page):
        assert len(browser.find_elements(By.CSS_SELECTOR, ".chart .main-svg")) >= 5
        sections = [
            part.get_attribute("id") for part in browser.find_elements(By.TAG_NAME, "section")
        ]
        assert sections == [
            "overview", "data", "pipeline", "scores", "curves",
            "confusion", "map", "neighbors", "heat", "comparison", "about",
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
        assert browser.title == "Headstart 보고서"
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
    many = write_page(tmp_path, names, per_class=4, spread=0.1, heads=heads)
    with opened(browser, many, width=NARROW):
        assert find(browser, "#chart-matrix .heatmaplayer image").is_displayed()
        pair = find(browser, ".confused button")
        click(browser, pair)
        assert find(browser, "#list-dialog .card").is_displayed()
        press(browser, Keys.ESCAPE)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= NARROW
