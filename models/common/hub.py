"""The client of the Hugging Face hub, which waits half a minute for a hub that does not answer."""

from __future__ import annotations

import contextlib
import errno
import logging
import sys
from collections.abc import Iterator

from util.runtime.errors import InputError

_LOGGER = "huggingface_hub.utils._http"
_RETRIES = ("thrown while requesting", "Retrying in", "Rate limited")


class _OneLine(logging.Filter):
    """Holds back what the client writes of each attempt; the first one is said in words."""

    said = False

    def filter(self, record: logging.LogRecord) -> bool:
        if not any(sign in record.getMessage() for sign in _RETRIES):
            return True
        if not self.said:
            print("the hub does not answer; trying again for up to a minute", file=sys.stderr, flush=True)
        self.said = True
        return False


@contextlib.contextmanager
def hub_downloads() -> Iterator[None]:
    """Within, the hub's downloads say once that they are tried again, instead of in two lines per attempt.

    Raises:
        InputError: if they cannot be written, which has nothing to do with the network.
    """
    logger, held = logging.getLogger(_LOGGER), _OneLine()
    logger.addFilter(held)
    try:
        yield
    except OSError as error:
        if errno.errorcode.get(error.errno or 0) not in ("EACCES", "EROFS", "ENOSPC", "EDQUOT"):
            raise
        raise InputError(
            f"{error.filename or 'the cache of the Hugging Face hub'}: {error.strerror}; free space there or check its "
            "permissions. To download elsewhere, set HF_HOME to a folder that can be written"
        ) from None
    finally:
        logger.removeFilter(held)
