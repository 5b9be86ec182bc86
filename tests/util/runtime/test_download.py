import hashlib
import http.server
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.sam import checkpoints as sam
from util.runtime import download as module
from util.runtime.download import download
from util.runtime.errors import InputError

DATA = bytes(range(256)) * 5000
PREFIX = hashlib.md5(DATA).hexdigest()[:6]


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves DATA with ranges; ``cut`` connections end early; every request is noted."""

    def do_GET(self):
        server = self.server
        server.seen.append(self.headers.get("Range"))
        if self.path.startswith("/garbage"):
            self.wfile.write(b"no HTTP at all\r\n\r\n")
            return
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        start = int(self.headers["Range"][6:-1]) if "Range" in self.headers and server.ranges else 0
        if start and start >= len(DATA):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(DATA)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(DATA) - start))
        self.end_headers()
        body = DATA[start:]
        if server.cut:
            server.cut -= 1
            body = body[: len(body) // 3]
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen, server.cut, server.ranges = [], 0, True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_downloads_once(server, tmp_path):
    for _ in range(2):
        path = download(f"{server.url}/net_{PREFIX}.pth", PREFIX, tmp_path)
        assert path == tmp_path / f"net_{PREFIX}.pth" and path.read_bytes() == DATA
    assert server.seen == [None]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_goes_on_where_the_connection_was_cut(server, tmp_path):
    server.cut = 2
    assert download(f"{server.url}/net.pth", PREFIX, tmp_path).read_bytes() == DATA
    first = len(DATA) // 3
    assert server.seen == [None, f"bytes={first}-", f"bytes={first + (len(DATA) - first) // 3}-"]


def test_goes_on_from_an_earlier_run(server, tmp_path):
    (tmp_path / "net.pth.part").write_bytes(DATA[:1000])
    assert download(f"{server.url}/net.pth", PREFIX, tmp_path).read_bytes() == DATA
    assert server.seen == ["bytes=1000-"]


def test_server_without_ranges_starts_again(server, tmp_path):
    server.ranges = False
    (tmp_path / "net.pth.part").write_bytes(b"x" * 1000)
    assert download(f"{server.url}/net.pth", PREFIX, tmp_path).read_bytes() == DATA


def test_whole_partial_file_is_only_verified(server, tmp_path):
    (tmp_path / "net.pth.part").write_bytes(DATA)
    assert download(f"{server.url}/net.pth", PREFIX, tmp_path).read_bytes() == DATA


def test_partial_file_longer_than_the_whole_is_dropped(server, tmp_path):
    (tmp_path / "net.pth.part").write_bytes(DATA + b"more")
    assert download(f"{server.url}/net.pth", PREFIX, tmp_path).read_bytes() == DATA
    assert server.seen == [f"bytes={len(DATA) + 4}-", None]


def test_several_at_once_download_once(server, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: download(f"{server.url}/net.pth", PREFIX, tmp_path), range(4)))
    assert {path.read_bytes() for path in paths} == {DATA}
    assert server.seen == [None]


def test_wrong_content_is_refused_and_not_kept(server, tmp_path):
    with pytest.raises(InputError, match="should begin with 000000, found"):
        download(f"{server.url}/net.pth", "000000", tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "net.pth").write_bytes(b"damaged")
    with pytest.raises(InputError, match="delete it"):
        download(f"{server.url}/net.pth", PREFIX, tmp_path)


def test_unreachable_server_names_the_way_out(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    with pytest.raises(InputError, match="--mirror"):
        download(f"{server.url}/missing.pth", PREFIX, tmp_path)
    assert len(server.seen) == 1  # a 404 is final
    with pytest.raises(InputError, match="--mirror"):
        download("http://127.0.0.1:9/net.pth", PREFIX, tmp_path)
    with pytest.raises(InputError, match="cannot be downloaded.*no HTTP.*--mirror"):
        download(f"{server.url}/garbage", PREFIX, tmp_path)
    for address in ("weights/net.pth", "ftp://host/net.pth", f"{server.url}/"):
        with pytest.raises(InputError, match="not the address of a file.*--mirror"):
            download(address, PREFIX, tmp_path)


def test_a_folder_is_a_mirror_and_a_full_disk_is_reported(tmp_path, monkeypatch):
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/net.pth").write_bytes(DATA)
    url = (tmp_path / "mirror/net.pth").as_uri()
    assert download(url, PREFIX, tmp_path / "cache").read_bytes() == DATA
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written.*TORCH_HOME"):
        download(url, PREFIX, tmp_path / "file")


def test_the_official_checkpoint_comes_from_the_mirror_once(server, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setitem(sam.VARIANTS, "vit_b", sam.Variant(f"sam_vit_b_{PREFIX}.pth", 768))
    for _ in range(2):
        path = sam.official_checkpoint("vit_b", server.url + "/")
        assert Path(path) == tmp_path / "hub/checkpoints" / f"sam_vit_b_{PREFIX}.pth"
    assert server.seen == [None] and Path(path).read_bytes() == DATA
