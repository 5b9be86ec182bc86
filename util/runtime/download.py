"""Downloading a published file once: to a folder, with a progress bar, resumed, verified, from the first mirror that has it."""

from __future__ import annotations

import hashlib
import http.client
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import certifi

from util.runtime.errors import InputError
from util.runtime.files import replace
from util.runtime.locking import lock_file
from util.runtime.progress import Progress

CHUNK = 1 << 20  # bytes
ATTEMPTS = 5
TIMEOUT = 30.0  # seconds without a byte


class Unavailable(InputError):
    """A server does not have the file, or has another one; a mirror may do better."""


def cache_folder() -> Path:
    """Where torch keeps downloaded checkpoints: ``$TORCH_HOME/hub/checkpoints``, else under ``~/.cache/torch``."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints"


def download_from(mirrors: Sequence[str], md5_prefix: str, folder: str | os.PathLike[str]) -> Path:
    """A verified local copy of a file that several servers have under one name; they are asked in order.

    Raises:
        InputError: if none of them gives it, naming what each of them said.
    """
    said = []
    for number, url in enumerate(mirrors):
        try:
            return download(url, md5_prefix, folder)
        except Unavailable as error:
            said.append(str(error))
            if number + 1 < len(mirrors):
                print(f"{url} did not work, trying the next mirror: {mirrors[number + 1]}", file=sys.stderr)
    raise InputError("\n".join(said))


def download(url: str, md5_prefix: str, folder: str | os.PathLike[str] | None = None) -> Path:
    """A verified local copy of ``url``; an earlier download is reused, an interrupted one is resumed.

    Args:
        url: http, https or file; its last part names the file.
        md5_prefix: first hexadecimal digits of the file's MD5.
        folder: default: `cache_folder`.

    Raises:
        Unavailable: if the server cannot be reached, or gives another file.
        InputError: if the file cannot be written, or one that was there before has another MD5.
    """
    name = url.rpartition("/")[2]
    path = Path(folder or cache_folder()) / name
    if not name or urlsplit(url).scheme not in ("http", "https", "file"):
        raise InputError(
            f"{url}: not the address of a file; give --mirror URL with http://, https:// or file:// in front"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not _is_there(path, md5_prefix):
            # Machines that share a home folder come here together: one downloads, the others wait and find the file.
            place = path.with_name(f"{path.name}.lock")
            with lock_file(place, wait=True):
                try:
                    if not _is_there(path, md5_prefix):
                        _fetch_whole(url, md5_prefix, path)
                finally:
                    with suppress(OSError):  # Windows keeps a file that is open
                        place.unlink()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error}); free the disk or set TORCH_HOME"
        ) from None
    return path


def _is_there(path: Path, md5_prefix: str) -> bool:
    if not path.is_file():
        return False
    if (found := _md5(path)) and not found.startswith(md5_prefix):
        raise InputError(
            f"{path}: its MD5 should begin with {md5_prefix}, found {found}; delete it, and the next run downloads it again"
        )
    return True


def _fetch_whole(url: str, md5_prefix: str, path: Path) -> None:
    """Download ``url`` beside ``path``, check it, and move it there."""
    partial = path.with_name(f"{path.name}.part")
    _fetch_all(url, partial, path)
    found = _md5(partial)
    if not found.startswith(md5_prefix):
        partial.unlink()
        raise Unavailable(
            f"{url}: its MD5 should begin with {md5_prefix}, found {found}; the download was deleted: "
            "try again or name another mirror"
        )
    replace(partial, path)


def _fetch_all(url: str, partial: Path, path: Path) -> None:
    """Fetch until ``partial`` is whole; attempts go on while bytes arrive, each from where the one before ended."""
    failures, most = 0, _size(partial)
    while True:
        try:
            return _fetch(url, partial)
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, EOFError) as error:
            failures = 1 if _size(partial) > most else failures + 1
            most = max(most, _size(partial))
            gone = isinstance(getattr(error, "reason", None), FileNotFoundError)  # of a mirror that is a folder
            final = gone or (isinstance(error, urllib.error.HTTPError) and error.code < 500)
            if final or failures == ATTEMPTS:
                reason = " ".join(str(error).split()) or type(error).__name__
                raise Unavailable(
                    f"{url}: cannot be downloaded ({reason}); check the network, name a mirror with --mirror URL, "
                    f"or put the file at {path} yourself. Re-run to resume after {_size(partial)} bytes"
                ) from None
            time.sleep(0.2 * 2**failures)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _certificates() -> ssl.SSLContext | None:
    """Certifi's beside the system's on macOS, where python.org's Python has none until "Install Certificates" was run."""
    if sys.platform != "darwin":
        return None
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _fetch(url: str, partial: Path) -> None:
    """Append what is missing of ``url`` to ``partial``; EOFError when the connection ended early."""
    have = _size(partial)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT, context=_certificates())
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:  # 416: nothing is missing, or the file on the server is shorter
            raise
        if error.headers.get("Content-Range", "").rpartition("/")[2] == str(have):
            return
        os.truncate(partial, 0)
        raise EOFError("the partial file was not part of this one, starting again") from None
    with response:
        resumed = response.status == 206
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with (
            Progress(total=total, initial=have, unit="B", unit_scale=True, desc=partial.stem) as bar,
            open(partial, "ab" if resumed else "wb") as file,
        ):
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and _size(partial) < total:
        raise EOFError(f"the connection ended after {_size(partial)} of {total} bytes")
