"""Presets of KerasHub over HTTP (the whole of it lands with the downloads)."""

from pathlib import Path

from headstart.common.errors import InputError


def preset_folder(preset: str, handle: str, *, text: bool = False) -> Path:
    """Return the local folder of a published preset."""
    del handle, text
    raise InputError(f"weights: {preset} cannot be downloaded yet; name a folder")
