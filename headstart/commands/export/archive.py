"""Zip archives whose bytes depend on their content alone."""

from zipfile import ZipFile, ZipInfo


def add(archive: ZipFile, name: str, content: bytes, compression: int | None = None) -> None:
    """Add a file as of 1980, the earliest time that the format knows.

    Args:
        archive: Open for writing.
        name: Of the file in it.
        content: Its bytes.
        compression: One of `zipfile`'s methods; None for the archive's own.
    """
    entry = ZipInfo(name)
    # Fields that otherwise tell the system and the user's mask.
    entry.create_system, entry.external_attr = 3, 0o644 << 16
    archive.writestr(entry, content, archive.compression if compression is None else compression)
