"""What a page that is passed on calls files and parameters: nobody's folders stand in it."""

import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from headstart.common.urls import is_url, name_of


class ShownPaths:
    """Shortens paths of photos to what tells them apart; relative ones and URLs stay.

    An absolute path loses the folder that all of them share; where that is a home folder or lies
    above it, the home folder becomes `~`.

    Args:
        paths: All that may be asked for.
        home: The home folder.
    """

    def __init__(self, paths: Iterable[str], home: Path | None = None) -> None:
        folders = {path.rpartition("/")[0] or "/" for path in paths if path.startswith("/")}
        shared = Path(os.path.commonpath(folders)) if folders else None
        self._home = home or Path.home()
        above = shared is not None and self._home.is_relative_to(shared)
        self._shared = None if above else shared

    def __call__(self, path: str) -> str:
        """Return what to show of a path."""
        if self._shared is not None and Path(path).is_relative_to(self._shared):
            return str(Path(path).relative_to(self._shared))
        if Path(path).is_relative_to(self._home):
            return f"~/{Path(path).relative_to(self._home)}"
        return path


def shown_source(source: Any) -> str:
    """Return what a page calls `prepare.source`: a path or URL, or several."""
    sources = source if isinstance(source, list) else [source]
    return ", ".join(name_of(one) if _is_private(one) else str(one) for one in sources)


def shown_params(params: Mapping[str, Any]) -> str:
    """Return parameters as YAML, of absolute paths the last part alone."""
    if not params:
        return ""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # declared as None
    yaml.width = 100
    text = io.StringIO()
    yaml.dump(_without_folders(params), text)
    return text.getvalue()


def _without_folders(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _without_folders(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_folders(value) for value in content]
    return f"…/{name_of(content)}" if _is_private(content) else content


def _is_private(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("/", "~")) and not is_url(value)
