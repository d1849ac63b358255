"""The site as readers open it: whole, in two languages, from a folder, without a network."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver

from docs.make import LANGUAGES
from docs.sandbox import ROOT
from tests.e2e.browser import NARROW, find, needs_chromium, wait

pytestmark = pytest.mark.slow

LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}
"""What a page asks for by itself, by the attribute that names it."""


@dataclass
class Page(HTMLParser):
    """What a page of the site names.

    Attributes:
        path: Of its file.
        ids: What may stand behind the # of a link to it.
        links: What its links name.
        loaded: What it asks for by itself.
        twins: What its links to other languages name.
    """

    path: Path
    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    twins: list[str] = field(default_factory=list)
    _nav: bool = False

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag == "nav":
            self._nav = "languages" in given.get("class", "")
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
            if self._nav:
                self.twins.append(given["href"])
        # Where a page is at home, and what it goes on with, is told and not fetched.
        if tag in LOADED and LOADED[tag] in given and given.get("rel") not in TOLD:
            self.loaded.append(given[LOADED[tag]])

    def handle_endtag(self, tag: str) -> None:
        if tag == "nav":
            self._nav = False


TOLD = {"canonical", "next", "prev", "index", "search"}


@dataclass(frozen=True)
class Site:
    """The site, and what building it printed."""

    folder: Path
    printed: str
    status: int

    @property
    def pages(self) -> dict[Path, Page]:
        """All pages by their path."""
        return {path: Page(path) for path in sorted(self.folder.rglob("*.html"))}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("site").resolve()
    done = subprocess.run(
        [sys.executable, "-m", "docs.make", "html", str(folder)],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    return Site(folder, done.stdout, done.returncode)


def is_elsewhere(address: str) -> bool:
    return bool(urlsplit(address).netloc) or urlsplit(address).scheme not in ("", "file")


def test_building_it_warns_of_nothing(site: Site) -> None:
    assert site.status == 0, site.printed
    assert "WARNING" not in site.printed


def test_all_that_pages_name_is_there(site: Site) -> None:
    pages, missing = site.pages, []
    assert len(pages) > 2 * len(LANGUAGES)
    for path, page in pages.items():
        for address in [*page.links, *page.loaded]:
            if is_elsewhere(address) or address.startswith("#!"):
                continue
            parts = urlsplit(address)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.is_file():
                missing.append(f"{path}: no such file: {address}")
            elif anchor and target in pages and anchor not in pages[target].ids:
                missing.append(f"{path}: no such place: {address}")
    assert not missing, "\n".join(missing)


def test_each_page_leads_to_its_twin(site: Site) -> None:
    for path, page in site.pages.items():
        if path.parent == site.folder:
            continue
        language, *rest = path.relative_to(site.folder).parts
        twins = {(path.parent / twin).resolve() for twin in page.twins}
        others = {site.folder.joinpath(other, *rest) for other in LANGUAGES if other != language}
        assert twins == others, path


def test_nothing_is_asked_of_a_network(site: Site) -> None:
    for path, page in site.pages.items():
        assert not [address for address in page.loaded if is_elsewhere(address)], path
    for path in site.folder.rglob("*.css"):
        addresses = re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')\s]+)", path.read_text("utf-8"))
        assert not [one for one in addresses if re.match(r"(?:https?:)?//", one)], path


def look(browser: WebDriver, address: str, *, width: int, dark: bool = False) -> None:
    theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme]})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(address)


@needs_chromium
@pytest.mark.parametrize(("language", "word"), [("en", "BatchNorm"), ("ko", "특징")])
def test_its_search_works_from_a_folder(
    site: Site, browser: WebDriver, language: str, word: str
) -> None:
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    look(browser, (site.folder / language / "search.html").as_uri(), width=1280)
    box = find(browser, "input[name=q]")
    box.send_keys(word, Keys.ENTER)
    wait(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#search-results li a"))
    wait(browser, lambda: find(browser, "#search-results .search-summary").text)
    found = browser.find_elements(By.CSS_SELECTOR, "#search-results li a")
    target = Path(unquote(urlsplit(str(found[0].get_attribute("href"))).path))
    assert target.is_file()
    assert word.lower() in target.read_text(encoding="utf-8").lower()
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    assert not [
        one["params"]["request"]["url"]
        for one in asked
        if one["method"] == "Network.requestWillBeSent"
        and urlsplit(one["params"]["request"]["url"]).scheme in ("http", "https", "ws", "wss")
    ]
    assert [entry["message"] for entry in browser.get_log("browser")] == []


@needs_chromium
@pytest.mark.parametrize("language", LANGUAGES)
def test_no_page_scrolls_sideways_on_a_telephone(
    site: Site, browser: WebDriver, language: str
) -> None:
    wide = {}
    for path in sorted((site.folder / language).rglob("*.html")):
        look(browser, path.as_uri(), width=NARROW)
        width = browser.execute_script("return document.documentElement.scrollWidth")
        if width > NARROW:
            wide[path.relative_to(site.folder).as_posix()] = width
    assert not wide
