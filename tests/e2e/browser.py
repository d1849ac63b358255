"""What tests of the report in a real browser share: Debian's Chromium, its own chromedriver."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from headstart.report.collecting import collect
from headstart.report.options import ReportOptions
from headstart.report.rendering import render
from headstart.report.results import RunPlaces, read_results
from tests.report_run import spatial

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="Chromium is not installed (Debian: apt-get install chromium chromium-driver)",
)

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--lang=en-US",
)  # fmt: skip
NAMES = ("<img src=x onerror=alert(1)>", "고양이", "</script><script>alert(2)</script>", "dog")
WIDE, NARROW = 1280, 390


TOUCH = (
    ("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 1}),
    ("Emulation.setEmulatedMedia", {"features": [
        {"name": "pointer", "value": "coarse"}, {"name": "hover", "value": "none"},
    ]}),
)  # fmt: skip


def write_page(root: Path, name: str = "index.html") -> Path:
    """Write the page about a finished run."""
    with chdir(root):
        where = RunPlaces(comparison=Path("plots/comparison.json"))
        results = read_results(where)

        def maps(images: Sequence[int]) -> np.ndarray:
            return np.stack([spatial(Path(results.manifest.rows[image].path)) for image in images])

        options = ReportOptions(seed=0, pictures=600, heat_maps=6, projections=["pca", "tsne"])
        page = root / name
        page.write_text(render(collect(where, results, options, maps)), encoding="utf-8")
    return page


def start(profile: Path) -> WebDriver:
    """Start a browser that keeps what it knows in a folder."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))


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
        # A download of the page's own making is no call.
        and not message["params"]["request"]["url"].startswith(("data:", "blob:"))
    }


def wait(browser: WebDriver, condition: Callable[[], Any]) -> Any:
    return WebDriverWait(browser, 30, 0.1).until(lambda _: condition())


@contextmanager
def touched(browser: WebDriver) -> Iterator[None]:
    """Let the open page be that of a phone, on which a finger taps and nothing hovers."""
    for command, arguments in TOUCH:
        browser.execute_cdp_cmd(command, arguments)
    browser.refresh()
    wait(browser, lambda: not browser.find_elements(By.CSS_SELECTOR, ".chart:not(.drawn)"))
    yield
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def tap(browser: WebDriver, element: WebElement) -> None:
    bring_up(browser, element)
    box = "const { x, y, width, height } = arguments[0].getBoundingClientRect();"
    middle = f"{box} return {{ x: x + width / 2, y: y + height / 2 }}"
    where = {
        **browser.execute_script(middle, element),
        "duration": 60,
        "tapCount": 1,
        "gestureSourceType": "touch",
    }
    browser.execute_cdp_cmd("Input.synthesizeTapGesture", where)


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


def saved_corrections(browser: WebDriver, folder: Path) -> str:
    """Press the report's button and return the text of the file that it saves, once per call."""
    for path in folder.glob("corrections*"):
        path.unlink()
    allowed = {"behavior": "allow", "downloadPath": str(folder), "eventsEnabled": False}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", allowed)
    click(browser, find(browser, "#save-corrections"))
    path = folder / "corrections.csv"
    wait(browser, path.is_file)
    return path.read_text(encoding="utf-8")
