"""Downloading a published file once: to a cache, with a progress bar, resumed, verified."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from tqdm import tqdm

from util.runtime.errors import InputError
from util.runtime.files import hash_of

CHUNK = 1 << 20
ATTEMPTS = 5


def cache_folder() -> Path:
    """Where torch keeps downloaded checkpoints: ``$TORCH_HOME/hub/checkpoints``, else under ``~/.cache/torch``."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints"


def download(url: str, md5_prefix: str, folder: str | os.PathLike | None = None) -> Path:
    """A verified local copy of ``url``; what was downloaded before is used again, what was cut off goes on.

    Args:
        url: http, https or file; its last part names the file.
        md5_prefix: first hexadecimal digits of the file's MD5.
        folder: default: `cache_folder`.

    Raises:
        InputError: if it cannot be reached or written, or its MD5 is another one.
    """
    name = url.rpartition("/")[2]
    path = Path(folder or cache_folder()) / name
    partial = path.with_name(path.name + ".part")
    if not name or urlsplit(url).scheme not in ("http", "https", "file"):
        raise InputError(f"{url}: no address of a file; give --mirror URL with http://, https:// or file://")
    remedy = f"{path}: delete it, and the next run downloads it again"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            _check(path, md5_prefix, remedy)
            return path
        # Machines that share a home folder come here together: one downloads, the others wait and find the file.
        with open(partial, "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.is_file():
                _check(path, md5_prefix, remedy)
                return path
            _fetch_all(url, partial, path)
            try:
                _check(partial, md5_prefix, f"{url}: the download was deleted; try again or name another mirror")
            except InputError:
                partial.unlink()
                raise
            os.replace(partial, path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error}); free the disk or set TORCH_HOME"
        ) from None
    return path


def _fetch_all(url: str, partial: Path, path: Path) -> None:
    """Fetch until ``partial`` is whole; a few attempts, each from where the one before was cut off."""
    for attempt in range(ATTEMPTS):
        try:
            return _fetch(url, partial)
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, EOFError) as error:
            final = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if final or attempt == ATTEMPTS - 1:
                reason = " ".join(str(error).split()) or type(error).__name__
                raise InputError(
                    f"{url}: cannot be downloaded ({reason}); check the network, name a mirror with --mirror URL, "
                    f"or put the file at {path} yourself. Run again to go on from {_size(partial)} bytes"
                ) from None
            time.sleep(0.2 * 2**attempt)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _fetch(url: str, partial: Path) -> None:
    """Append what is missing of ``url`` to ``partial``; EOFError when the connection ended early."""
    have = _size(partial)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:  # 416: nothing is missing, or the file on the server is shorter
            raise
        if error.headers.get("Content-Range", "").rpartition("/")[2] == str(have):
            return
        os.truncate(partial, 0)
        raise EOFError("the partial file did not belong to this one, starting again") from None
    with response:
        resumed = response.status == 206 if hasattr(response, "status") else False
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=partial.stem, dynamic_ncols=True)
        with bar, open(partial, "ab" if resumed else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and _size(partial) < total:
        raise EOFError(f"the connection ended after {_size(partial)} of {total} bytes")


def _check(path: Path, md5_prefix: str, remedy: str) -> None:
    with open(path, "rb") as file:
        found = hash_of(file, hashlib.md5())
    if not found.startswith(md5_prefix):
        raise InputError(f"{path.name}: its MD5 should begin with {md5_prefix}, found {found}. {remedy}")
