"""The web demo in a real browser: Debian's chromium, driven by Playwright, against a server on this machine.

The server runs on a copy of the project, so that a strategy can be edited, and with a temporary folder of its own, so
that what it leaves on disk is seen.
"""

import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile

import numpy as np
import pytest
from helpers import ROOT, run_script
from PIL import Image
from web_demo_data import NAMES, encoded, lab_options, photograph, png_header, write_checkpoint, write_merge_data

pytest.importorskip("torch")
pytest.importorskip("streamlit")
playwright = pytest.importorskip("playwright.sync_api", reason="no browser tests: pip install playwright")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no browser tests: no chromium is found; apt-get install chromium"),
]

COPIED = ("Web_demo", "merge", "models", "util", "processor.py")
PATIENCE = 120_000  # milliseconds; what is awaited takes about one second on a quiet machine


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A running demo: its address, folders and what it printed."""
    folder = tmp_path_factory.mktemp("site")
    project, data = folder / "project", folder / "data"
    project.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, project)
    write_merge_data(data)
    write_checkpoint(folder / "network.pth")
    (folder / "tmp").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "streamlit", "run", project / "Web_demo" / "src" / "app.py", "--server.port", port,
        "--server.headless", "true", "--", "--checkpoint", folder / "network.pth", "--device", "cpu",
        *lab_options(data),
    ]  # fmt: skip
    environment = {**os.environ, "TMPDIR": str(folder / "tmp"), "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)
    with open(folder / "log.txt", "w") as log:
        server = subprocess.Popen([*map(str, command)], cwd=project, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(2400):  # ten minutes, for a busy machine
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, (folder / "log.txt").read_text()
                time.sleep(0.25)
        yield {"address": address, "folder": folder, "project": project, "log": folder / "log.txt", "pid": server.pid}
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        # Tests run as root, which chromium's sandbox refuses.
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(site, browser):
    """The demo's first page; whatever the browser complains of fails the test, and so does a request to elsewhere."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(PATIENCE)
    page, complaints = context.new_page(), []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if is_elsewhere(request.url, site) else None)
    page.goto(site["address"])
    page.get_by_role("heading", name="What is in the picture?").wait_for()
    yield page
    assert complaints == []
    assert page.locator("[data-testid=stException]").count() == 0
    context.close()


def is_elsewhere(url, site):
    return not url.startswith((site["address"], site["address"].replace("http", "ws"), "data:", "blob:"))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory, request):
    """Two photographs of PASCAL VOC, of which one lies on its side by its EXIF tag; generated pictures without VOC."""
    folder = tmp_path_factory.mktemp("photographs")
    try:
        images = request.getfixturevalue("voc12") / "JPEGImages"
    except pytest.skip.Exception:
        (folder / "first.jpg").write_bytes(encoded(photograph(375, 500)))
        (folder / "second.jpg").write_bytes(encoded(photograph(500, 375, seed=1)))
    else:
        for name, source in zip(("first.jpg", "second.jpg"), sorted(images.glob("*.jpg"))):
            shutil.copy(source, folder / name)
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(folder / "second.jpg") as image:
        image.save(folder / "second.jpg", exif=exif)
    return folder


def upload(page, *files):
    page.locator("input[type=file]").set_input_files(list(files))
    page.get_by_role("button", name="Mask (PNG)").first.wait_for()


def settle(page):
    """Wait until the server has answered the last click."""
    for _ in range(2):  # the click may be a while on its way
        page.wait_for_timeout(300)
        page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()


def other_score(page, strategy, before):
    """Wait until the picture of a strategy tells another score than its description did before."""
    # Asked of the page anew each time, since Streamlit may put another picture in the place of one.
    page.wait_for_function(
        "([start, before]) => [...document.images].some(i => i.alt.startsWith(start) && i.alt.split(',')[0] != before)",
        arg=[f"{strategy}: IoU", before.split(",")[0]],
    )


def download(page, button):
    with page.expect_download() as event:
        button.click()
    return event.value.suggested_filename, event.value.path().read_bytes()


def test_downloaded_masks_are_those_of_the_evaluation_script(page, site, photographs, tmp_path):
    (tmp_path / "list.txt").write_text("first\nsecond\n")
    (tmp_path / "gt").mkdir()
    done = run_script(
        "evaluate_enhanced.py", "--checkpoint", site["folder"] / "network.pth", "--images", photographs, "--device", "cpu",
        "--gt", tmp_path / "gt", "--list", tmp_path / "list.txt", "--out", tmp_path / "out",
    )  # fmt: skip
    expected = {path.stem: path.read_bytes() for path in (tmp_path / "out").glob("predictions/labels/*.png")}
    assert set(expected) == {"first", "second"}, done.stderr

    upload(page, photographs / "first.jpg", photographs / "second.jpg")
    page.get_by_role("button", name=re.compile("Download all 2")).wait_for()
    assert len(page.get_by_text(re.compile(r"pixels, done in \d+\.\d\d s")).all()) == 2
    for number, name in enumerate(("first", "second")):
        found, mask = download(page, page.get_by_role("button", name="Mask (PNG)").nth(number))
        assert found == f"{name}_mask.png" and mask == expected[name]
        assert len(np.unique(np.asarray(Image.open(io.BytesIO(mask))))) > 1
    found, archive = download(page, page.get_by_role("button", name=re.compile("Download all 2")))
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        assert found == "segmentation.zip" and file.testzip() is None
        assert {name: file.read(name) for name in file.namelist() if name.endswith("_mask.png")} == {
            f"{name}_mask.png": mask for name, mask in expected.items()
        }
    alt = page.get_by_role("img", name=re.compile("Mask of first.jpg: ")).get_attribute("alt")
    assert any(name in alt for name in NAMES)


def test_a_mask_can_be_fetched_while_the_page_is_at_work(page, site, browser):
    """Streamlit drops a page's files while it runs and other visitors' pages come to their end."""
    upload(page, {"name": "one.png", "mimeType": "image/png", "buffer": encoded(photograph(), "PNG")})
    settle(page)
    others = browser.new_context()
    other = others.new_page()
    other.goto(site["address"])
    done = page.get_by_text(re.compile(r"pixels, done in \d+\.\d\d s"))
    quickly = done.inner_text()
    page.get_by_text("Look more closely").click()
    playwright.expect(done).not_to_have_text(quickly, timeout=PATIENCE)
    settle(page)
    more = [encoded(photograph(900, 1200, seed)) for seed in range(9)]  # more than half a minute of work
    page.locator("input[type=file]").set_input_files(
        [{"name": f"{number}.jpg", "mimeType": "image/jpeg", "buffer": data} for number, data in enumerate(more)]
    )
    page.get_by_text(re.compile(r"Picture \d of \d+")).wait_for()
    for _ in range(2):
        other.get_by_text("Look more closely").click()
        settle(other)
    others.close()
    name, mask = download(page, page.get_by_role("button", name="Mask (PNG)").first)
    assert page.get_by_role("button", name="Mask (PNG)").count() == 1, "the work was over too early to tell"
    assert name == "one_mask.png" and Image.open(io.BytesIO(mask)).size == (160, 120)


def test_switches_and_sliders_change_the_pictures(page, site):
    upload(page, {"name": "one.png", "mimeType": "image/png", "buffer": encoded(photograph(), "PNG")})
    overlay = page.get_by_role("img", name=re.compile("one.png with its mask"))
    first = overlay.get_attribute("src")
    slider = page.get_by_role("slider", name="Strength of the colours")
    slider.focus()
    for _ in range(4):
        slider.press("ArrowRight")
    settle(page)
    playwright.expect(overlay).not_to_have_attribute("src", first, timeout=PATIENCE)
    second = overlay.get_attribute("src")
    assert second != first
    pill = page.locator("[data-testid=stButtonGroup]").filter(has_text="Shown").get_by_role("button").nth(1)
    pill.click()
    page.get_by_text("(not shown)").wait_for()
    playwright.expect(overlay).not_to_have_attribute("src", second, timeout=PATIENCE)
    page.get_by_text("Show how sure the model is").click()
    page.get_by_role("img", name=re.compile("How sure the model is")).wait_for()
    page.get_by_text("Look more closely").click()
    settle(page)
    page.get_by_role("button", name="Mask (PNG)").first.wait_for()


def test_bad_uploads_leave_the_demo_alive_and_nothing_on_disk(page, site):
    before = listing(site)
    secret = np.random.default_rng(5).integers(0, 255, (700, 800, 3), np.uint8)
    files = {
        "cut.jpg": encoded(photograph())[:1500], "empty.png": b"", "bomb.png": png_header(20_000, 20_000),
        "<img src=x onerror=document.title='bad'>.png": encoded(photograph(), "PNG"), "page.jpg": b"<script>1</script>",
        "secret.png": encoded(secret, "PNG"),
    }  # fmt: skip
    upload(page, *({"name": n, "mimeType": "image/png", "buffer": d} for n, d in files.items()))
    page.get_by_role("img", name=re.compile("Mask of secret.png")).wait_for()
    settle(page)
    assert page.locator("[data-testid=stAlert]").count() == 4
    assert page.get_by_text("_img src=x onerror=document.title='bad'_.png").count() >= 1
    assert page.title() != "bad"
    assert listing(site) == before
    assert not any("deleted" in link and "tmp" in link for link in open_files(site["pid"]))
    page.reload()
    page.get_by_role("heading", name="What is in the picture?").wait_for()
    assert listing(site) == before


def test_a_file_of_30_megabytes_is_refused_before_it_is_sent(page, site, tmp_path):
    (tmp_path / "huge.png").write_bytes(bytes(30 * 2**20))
    page.locator("input[type=file]").set_input_files(tmp_path / "huge.png")
    page.get_by_text(re.compile("must be 20.*MB or smaller")).wait_for()
    upload(page, {"name": "good.png", "mimeType": "image/png", "buffer": encoded(photograph(), "PNG")})


def listing(site):
    """Every file that the server could have written."""
    places = (site["folder"] / "tmp", site["project"], site["folder"] / "data")
    return {path: path.stat().st_size for place in places for path in place.rglob("*") if path.is_file()}


def open_files(pid):
    folder = f"/proc/{pid}/fd"
    if not os.path.isdir(folder):
        return []
    links = []
    for name in os.listdir(folder):
        try:
            links.append(os.readlink(f"{folder}/{name}"))
        except OSError:
            continue
    return links


def test_an_edited_strategy_is_seen_after_rerun(page, site):
    page.get_by_role("link", name="Strategy lab").click()
    page.get_by_role("heading", name="Strategy lab").wait_for()
    page.get_by_role("img", name=re.compile("^merge_customize: IoU")).wait_for()
    before = page.get_by_role("img", name=re.compile("^merge_customize: IoU")).get_attribute("alt")
    page.get_by_role("combobox", name=re.compile("Tune")).click()
    page.get_by_role("option", name="max_iou", exact=True).click()
    slider = page.get_by_role("slider", name=re.compile("^threshold"))
    slider.focus()
    settle(page)
    score = page.get_by_role("img", name=re.compile("^max_iou: IoU")).get_attribute("alt")
    slider.press("End")
    other_score(page, "max_iou", score)
    page.get_by_role("button", name="Find the best and the worst").click()
    page.get_by_text("Images better / worse").wait_for()
    page.get_by_role("button", name="Next").click()
    settle(page)
    page.get_by_role("button", name="Previous").click()
    settle(page)

    strategy = site["project"] / "merge" / "merge_customize.py"
    text = strategy.read_text()
    strategy.write_text(text + "\n\ndef merge(label, masks, *, tags=None, cam=None):\n    return 0 * label\n")
    page.get_by_role("button", name="Rerun", exact=True).click()
    other_score(page, "merge_customize", before)
    strategy.write_text(text + "\nthis is no Python\n")
    page.get_by_role("button", name="Rerun", exact=True).click()
    page.get_by_text(re.compile("the strategies cannot be read")).wait_for()
    strategy.write_text(text)
    page.get_by_role("button", name="Rerun", exact=True).click()
    page.get_by_role("img", name=re.compile("^merge_customize: IoU")).wait_for()


def test_pages_and_narrow_screens(page, site):
    page.set_viewport_size({"width": 390, "height": 800})
    page.reload()
    page.get_by_role("heading", name="What is in the picture?").wait_for()
    upload(page, {"name": "one.png", "mimeType": "image/png", "buffer": encoded(photograph(), "PNG")})
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    boxes = [
        page.get_by_role("img", name=re.compile(name)).first.bounding_box() for name in ("^The picture", "^Mask of")
    ]
    assert boxes[0]["width"] > 250 and boxes[1]["y"] > boxes[0]["y"] + 100  # below each other
    page.set_viewport_size({"width": 1280, "height": 900})
    for name, heading in (
        ("Results", "Results"),
        ("Segment", "What is in the picture?"),
        ("Strategy lab", "Strategy lab"),
    ):
        page.get_by_role("link", name=name).click()
        page.get_by_role("heading", name=heading, exact=True).wait_for()
        settle(page)


def test_the_network_was_loaded_once_for_all(site, page):
    settle(page)
    assert site["log"].read_text().count("loaded ") == 1
    assert "Traceback" not in site["log"].read_text()
