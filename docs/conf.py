"""Sphinx: one build for each language, of docs/<language>/ (`python -m docs.make html`)."""

from pathlib import Path
from typing import Any

project = "Headstart"
author = "the developers of Headstart"
copyright = "the developers of Headstart, Apache License 2.0"
extensions = ["myst_parser", "sphinx_copybutton"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header", "misc.highlighting_failure"]
templates_path = ["theme"]
locale_dirs = [str(Path(__file__).parent / "theme" / "locale")]
html_static_path = ["theme/static"]
html_theme = "furo"
html_title = "Headstart"
html_css_files = ["headstart.css"]
html_show_sphinx = False
html_copy_source = False
# A page that is opened from a folder cannot fetch the others.
html_show_search_summary = False
html_sidebars = {
    "**": [
        "sidebar/brand.html", "languages.html", "sidebar/search.html", "sidebar/scroll-start.html",
        "sidebar/navigation.html", "sidebar/scroll-end.html",
    ]
}  # fmt: skip
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True


def _languages(app: Any, page: str, _: str, context: dict[str, Any], __: Any) -> None:
    """Tell each page where it stands in the other language."""
    up = "../" * (page.count("/") + 1)
    context["languages"] = [
        (name, f"{up}{code}/{page}.html", code == app.config.language)
        for code, name in (("en", "English"), ("ko", "한국어"))
        if (Path(app.confdir) / code / f"{page}.md").is_file() or page in ("search", "genindex")
    ]


def setup(app: Any) -> None:
    """Connect to Sphinx."""
    app.connect("html-page-context", _languages)
    if app.config.language == "ko":
        from docs.korean import KoreanSearch

        app.add_search_language(KoreanSearch)
