"""Id lists: text files with one image id a line."""

from __future__ import annotations

import os
from pathlib import PurePosixPath

from util.runtime.errors import InputError
from util.runtime.files import check_id, read_text


def read_id_list(path: str | os.PathLike) -> list[str]:
    """Read an id list, in file order, repeated ids once.

    Blank lines, CRLF and a byte-order mark are accepted. In lists with columns (TransCAM's
    ``/JPEGImages/ID.jpg /SegmentationClassAug/ID.png``) the first column counts, less its folder and suffix.

    Raises:
        InputError: if the file is missing, is not text, or holds no id.
    """
    ids: dict[str, None] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        columns = line.split()
        if not columns:
            continue
        name = columns[0]
        if "/" in name or len(columns) > 1:
            pure = PurePosixPath(name)
            name = pure.stem if pure.suffix.lower() in (".jpg", ".jpeg", ".png") else pure.name
        try:
            ids[check_id(name)] = None
        except InputError as error:
            raise InputError(f"{path}, line {number}: {error}") from None
    if not ids:
        raise InputError(f"{path}: the id list is empty; write one image id a line")
    return list(ids)
