"""Fetching the archives from a server of this machine that is slow, breaks off, has another file, or has none."""

import dataclasses
import hashlib
import http.server
import threading
import time
from argparse import Namespace
from pathlib import PurePosixPath

import pytest
from scripts.test_prepare_voc import sbd_files, voc_files, write_archive

from util.data import voc_archives, voc_layout
from util.data.archives import fetch as fetch_archives
from util.data.ids import read_id_list
from util.runtime import download
from util.runtime.errors import InputError


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves the files of ``server.files``; the folder of an address says how.

    /good and /slow give the file, /broken ends after a third of what is asked for, /wrong gives other bytes, /gone
    answers 404.
    """

    def do_GET(self):
        manner, name = PurePosixPath(self.path).parts[1:3]
        self.server.asked.append((manner, name, self.headers.get("Range")))
        if manner == "gone":
            self.send_error(404)
            return
        whole = self.server.files[name] if manner != "wrong" else b"something else" * 100
        start = int(self.headers["Range"][6:-1]) if "Range" in self.headers else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(whole) - start))
        self.end_headers()
        body = whole[start:]
        if manner == "broken":
            body = body[: max(1, len(body) // 3)]
        step = len(body) // 20 + 1 if manner == "slow" else len(body)
        for place in range(0, len(body), max(1, step)):
            self.wfile.write(body[place : place + step])
            time.sleep(0.01 if manner == "slow" else 0)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The server, with small archives of the published layout that the product takes for the published ones."""
    write_archive(tmp_path / "source/VOCtrainval_11-May-2012.tar", voc_files(), "w")
    write_archive(tmp_path / "source/benchmark.tgz", sbd_files(), "w:gz")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.files = [], {path.name: path.read_bytes() for path in (tmp_path / "source").iterdir()}
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    for name in ("VOC", "SBD"):
        archive = getattr(voc_archives, name)
        data = server.files[archive.file]
        small = dataclasses.replace(
            archive, size=len(data), md5=hashlib.md5(data).hexdigest(), folders=(server.url + "/gone",)
        )
        monkeypatch.setattr(voc_archives, name, small)
        monkeypatch.setattr(voc_layout, name, small)
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(server, folder, *manners):
    fetch_archives([voc_archives.VOC], folder, [f"{server.url}/{manner}/" for manner in manners])
    assert (folder / voc_archives.VOC.file).read_bytes() == server.files[voc_archives.VOC.file]
    assert [path.name for path in folder.iterdir()] == [voc_archives.VOC.file], "nothing is left beside it"


def manners(server):
    return [manner for manner, *_ in server.asked]


@pytest.mark.parametrize("manner", ["good", "slow"])
def test_an_archive_is_fetched_once(server, tmp_path, manner):
    for _ in range(2):
        fetch(server, tmp_path / "archives", manner)
    assert manners(server) == [manner]


def test_what_breaks_off_is_resumed(server, tmp_path):
    fetch(server, tmp_path / "archives", "broken")
    starts = [int(asked[6:-1]) for *_, asked in server.asked if asked]
    assert len(starts) > 3 and starts == sorted(set(starts)), "each request asks for what is missing"


def test_an_interrupted_download_is_resumed_by_the_next_run(server, tmp_path):
    partial = tmp_path / "archives" / f"{voc_archives.VOC.file}.part"
    partial.parent.mkdir()
    partial.write_bytes(server.files[voc_archives.VOC.file][:5000])
    fetch(server, tmp_path / "archives", "good")
    assert server.asked[0][2] == "bytes=5000-"


def test_the_next_mirror_is_asked_where_one_has_none_or_another_file(server, tmp_path, capsys):
    fetch(server, tmp_path / "archives", "gone", "wrong", "good")
    assert manners(server) == ["gone", "wrong", "good"]
    assert capsys.readouterr().err.count("trying the next mirror") == 2


def test_where_no_mirror_has_it_each_is_named_and_nothing_is_kept(server, tmp_path):
    with pytest.raises(InputError) as error:
        fetch(server, tmp_path / "archives", "wrong", "gone")
    assert "its MD5 should begin with" in str(error.value) and "404" in str(error.value)
    assert not list((tmp_path / "archives").iterdir())


def test_an_archive_that_is_there_is_used_and_named_if_it_is_damaged(server, tmp_path):
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / voc_archives.VOC.file).write_bytes(b"cut short")
    fetch_archives([voc_archives.VOC], tmp_path / "archives", [f"{server.url}/good"])
    assert server.asked == []
    with pytest.raises(InputError, match="cut short or damaged.*--download"):
        list(voc_archives.members(tmp_path / "archives" / voc_archives.VOC.file, voc_archives.VOC))


def test_from_an_empty_disk_to_the_layout(server, tmp_path, capsys):
    out = tmp_path / "my VOC"
    options = {"download": True, "mirror": [f"{server.url}/gone", f"{server.url}/slow"], "archives": None}
    more = {"no_sbd": False, "partial": True, "overwrite": False, "workers": 1, "out": out}
    assert voc_layout.run(Namespace(**options, **more)) == 0
    assert len(read_id_list(out / "ImageSets/Segmentation/trainaug.txt")) == 4
    assert sorted(path.name for path in (out / "archives").iterdir()) == sorted(server.files)
    assert capsys.readouterr().out.splitlines()[-1] == f"next: python quickstart.py --voc '{out}'"
