"""Words that people head the columns of tables of image-level labels with."""

from __future__ import annotations

import re

_ID_WORDS = {
    *("id", "ids", "image", "images", "imageid", "imageids", "imagename", "imagepath", "imagefile", "img", "imgid"),
    *("imageindex", "imagefilename", "imgname", "imgpath", "imgfile", "filenames", "fname"),
    *("file", "filename", "filepath", "name", "path", "photo", "picture", "sample"),
}
_CLASS_WORD = re.compile(r"(class|label|tag|categor|object)(es|s|y|ies|name|names|id|ids)?\d*")


def plain_word(cell: str) -> str:
    """Lower case, letters and digits alone: ``Image_Name`` -> ``imagename``."""
    return re.sub(r"[^a-z0-9]", "", cell.lower())


def is_id_word(cell: str) -> bool:
    """Whether a column of this head has the images' names."""
    return plain_word(cell) in _ID_WORDS


def ends_in_class_word(cell: str) -> bool:
    """Whether the last of several words says that a column has classes, as in ``Finding Labels``."""
    words = re.findall(r"[a-z]+", cell.lower())
    return len(words) > 1 and is_class_word(words[-1])


def is_class_word(cell: str) -> bool:
    """Whether a column of this head has classes."""
    return bool(_CLASS_WORD.fullmatch(plain_word(cell)))
