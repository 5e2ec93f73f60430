"""Archives that hold a model's folder."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from lepton.errors import DownloadError

_MOST_FILES = 1000
_LARGEST_RATIO = 200
"""An archive that claims to hold more times its own size is not unpacked."""


def unpack_zip(archive: Path, target: Path) -> None:
    """Unpack a zip file into the folder ``target``, which appears whole or not at all.

    Raises DownloadError for a damaged archive, and for names that leave the folder, links, and
    sizes that no model has.
    """
    part = target.with_name(f"{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as content:
            members = content.infolist()
            _check(archive, members)
            for member in members:
                content.extract(member, part)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise DownloadError(f"{archive} cannot be unpacked: {error}; pull again") from error
    part.replace(target)


def _check(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    for member in members:
        name = PurePosixPath(member.filename)
        link = stat.S_ISLNK(member.external_attr >> 16)
        if name.is_absolute() or ".." in name.parts or "\\" in member.filename or link:
            raise DownloadError(
                f"{archive} holds {member.filename!r}, which is no plain file in it"
            )
    size = sum(member.file_size for member in members)
    if len(members) > _MOST_FILES or size > _LARGEST_RATIO * archive.stat().st_size:
        raise DownloadError(
            f"{archive} claims {len(members):,} files of {size:,} bytes, more than is believable"
        )
