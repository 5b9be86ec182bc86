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

import cv2
import numpy as np
import pytest
from helpers import ROOT, run_script
from PIL import Image
from web_demo_data import (
    NAMES,
    drawn,
    encoded,
    lab_options,
    png_header,
    write_checkpoint,
    write_merge_data,
    write_runs,
)

from util.data.images import read_image
from util.data.labels import write_label

pytest.importorskip("torch")
pytest.importorskip("streamlit")
playwright = pytest.importorskip("playwright.sync_api", reason="no browser tests: pip install playwright")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no browser tests: no chromium is found; apt-get install chromium"),
]

COPIED = ("Web_demo", "merge", "models", "pipeline", "processor.py", "util")
PATIENCE = 180_000  # milliseconds; what is awaited takes about one second on a quiet machine


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
    write_runs(project / "runs", data)
    (folder / "tmp").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        project / "Web_demo" / "src" / "app.py",
        "--server.port",
        port,
        "--server.headless",
        "true",
        "--",
        "--checkpoint",
        folder / "network.pth",
        "--device",
        "cpu",
        *lab_options(data),
    ]
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


@pytest.fixture(scope="module")
def context(browser):
    """One for all tests, so that Streamlit's own files are fetched and compiled once."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@pytest.fixture
def page(site, context):
    """The demo's first page; whatever the browser complains of fails the test, and so does a request to elsewhere."""
    page, complaints = context.new_page(), []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if is_elsewhere(request.url, site) else None)
    page.goto(site["address"])
    page.get_by_role("heading", name="Segment", exact=True).wait_for()
    yield page
    assert complaints == []
    assert page.locator("[data-testid=stException]").count() == 0
    page.evaluate("localStorage.clear()")  # there Streamlit keeps that the menu was closed
    page.close()


def is_elsewhere(url, site):
    return not url.startswith((site["address"], site["address"].replace("http", "ws"), "data:", "blob:"))


@pytest.fixture(scope="module")
def two_images(tmp_path_factory, request):
    """Two images of PASCAL VOC, of which one lies on its side by its EXIF tag; generated pictures without VOC."""
    folder = tmp_path_factory.mktemp("two_images")
    try:
        images = request.getfixturevalue("voc12") / "JPEGImages"
    except pytest.skip.Exception:
        (folder / "first.jpg").write_bytes(encoded(drawn(375, 500)))
        (folder / "second.jpg").write_bytes(encoded(drawn(500, 375, seed=1)))
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
    page.get_by_role("button", name="Label map (PNG)").first.wait_for()


def view(page, name):
    """Choose a view of the result."""
    page.locator(".st-key-view").get_by_role("radio", name=name, exact=True).click()
    settle(page)


def settle(page):
    """Wait until the server has answered the last click."""
    for _ in range(2):  # the click may be a while on its way
        page.wait_for_timeout(300)
        page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()


def other_score(page, strategy, before):
    """Wait until the image of a strategy shows another score than its description did before."""
    # Asked of the page anew each time, since Streamlit may put another image in its place.
    page.wait_for_function(
        "([start, before]) => [...document.images].some(i => i.alt.startsWith(start) && i.alt.split(',')[0] != before)",
        arg=[f"{strategy}: mIoU", before.split(",")[0]],
    )


def download(page, button):
    with page.expect_download() as event:
        button.click()
    return event.value.suggested_filename, event.value.path().read_bytes()


def test_downloaded_masks_are_those_of_the_evaluation_script(page, site, two_images, tmp_path):
    (tmp_path / "list.txt").write_text("first\nsecond\n")
    (tmp_path / "gt").mkdir()
    for name in ("first", "second"):
        shape = read_image(two_images / f"{name}.jpg").shape[:2]
        write_label(tmp_path / "gt" / f"{name}.png", np.zeros(shape, np.uint8))
    done = run_script(
        "evaluate_enhanced.py",
        "--checkpoint",
        site["folder"] / "network.pth",
        "--images",
        two_images,
        "--device",
        "cpu",
        "--gt",
        tmp_path / "gt",
        "--list",
        tmp_path / "list.txt",
        "--out",
        tmp_path / "out",
    )
    expected = {path.stem: path.read_bytes() for path in (tmp_path / "out").glob("predictions/labels/*.png")}
    assert set(expected) == {"first", "second"}, done.stderr

    upload(page, two_images / "first.jpg", two_images / "second.jpg")
    page.get_by_role("button", name=re.compile("Download all 2")).wait_for()
    for name in ("first", "second"):
        page.get_by_role("radio", name=re.compile(name)).click()
        page.get_by_role("img", name=re.compile(f"Overlay of {name}.jpg: ")).wait_for()
        assert page.get_by_text(re.compile(r"pixels, done in \d+\.\d\d\ss")).count() == 1
        settle(page)
        found, mask = download(page, page.get_by_role("button", name="Label map (PNG)"))
        assert found == f"{name}_label.png" and mask == expected[name]
        assert len(np.unique(np.asarray(Image.open(io.BytesIO(mask))))) > 1
        for button, file in (("COCO (JSON)", f"{name}_coco.json"), ("labelme (JSON)", f"{name}.json")):
            found, content = download(page, page.get_by_role("button", name=button))
            assert found == file and (f"{name}.jpg" in content.decode())
            settle(page)
    found, archive = download(page, page.get_by_role("button", name=re.compile("Download all 2")))
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        assert found == "segmentation.zip" and file.testzip() is None
        assert {name: file.read(name) for name in file.namelist() if name.endswith("_label.png")} == {
            f"{name}_label.png": mask for name, mask in expected.items()
        }
    alt = page.get_by_role("img", name=re.compile("Overlay of second.jpg: ")).get_attribute("alt")
    assert any(name in alt for name in NAMES)


def test_a_mask_can_be_fetched_while_the_page_is_at_work(page, site, browser):
    """Streamlit drops a page's files while it runs and other visitors' pages come to their end."""
    upload(page, {"name": "one.png", "mimeType": "image/png", "buffer": encoded(drawn(), "PNG")})
    settle(page)
    others = browser.new_context()
    other = others.new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(site["address"])
    other.get_by_role("img", name=re.compile("^Overlay of Sample 1")).wait_for()
    done = page.get_by_text(re.compile(r"pixels, done in \d+\.\d\d\ss"))
    quickly = done.inner_text()
    page.get_by_text("High quality").click()
    playwright.expect(done).not_to_have_text(quickly, timeout=PATIENCE)
    settle(page)
    more = [encoded(drawn(900, 1200, seed)) for seed in range(9)]  # more than half a minute of work
    page.locator("input[type=file]").set_input_files(
        [{"name": f"{number}.jpg", "mimeType": "image/jpeg", "buffer": data} for number, data in enumerate(more)]
    )
    page.get_by_text(re.compile(r"Image \d of \d+")).wait_for()
    for name in ("Original", "Overlay"):
        view(other, name)
    others.close()
    name, mask = download(page, page.get_by_role("button", name="Label map (PNG)").first)
    assert page.get_by_text(re.compile(r"Image \d of \d+")).count() == 1, "the work was over too early to be seen"
    assert (name, Image.open(io.BytesIO(mask)).size) in [("one_label.png", (160, 120)), ("0_label.png", (1200, 900))]


def test_switches_and_sliders_change_the_images(page, site):
    upload(page, {"name": "one.png", "mimeType": "image/png", "buffer": encoded(drawn(), "PNG")})
    overlay = page.get_by_role("img", name=re.compile("Overlay of one.png"))
    first = overlay.get_attribute("src")
    slider = page.get_by_role("slider", name="Overlay opacity")
    slider.focus()
    for _ in range(4):
        slider.press("ArrowRight")
    settle(page)
    playwright.expect(overlay).not_to_have_attribute("src", first, timeout=PATIENCE)
    second = overlay.get_attribute("src")
    group = page.locator("[data-testid=stButtonGroup]").filter(has_text="Classes shown")
    group.get_by_role("button").nth(1).click()
    page.get_by_text("(not shown)").wait_for()
    playwright.expect(overlay).not_to_have_attribute("src", second, timeout=PATIENCE)
    view(page, "Confidence")
    page.get_by_role("img", name=re.compile("^Confidence of the network")).wait_for()
    assert page.locator(".scale .numbers span").all_inner_texts() == ["0 %", "25 %", "50 %", "75 %", "100 %"]
    page.get_by_text("High quality").click()
    settle(page)
    page.get_by_role("button", name="Label map (PNG)").wait_for()


def test_an_example_is_there_before_anything_is_clicked(page, site):
    image = page.get_by_role("img", name=re.compile("^Overlay of Sample 1.png: "))
    image.wait_for()
    settle(page)
    box = image.bounding_box()
    assert box["height"] > 250 and box["y"] + box["height"] < 900  # all of it above the fold
    thumbnails = page.get_by_role("radiogroup", name="Images").get_by_role("radio")
    playwright.expect(thumbnails.locator("img")).to_have_count(4, timeout=PATIENCE)
    thumbnails.nth(2).click()
    page.get_by_role("img", name=re.compile("^Overlay of Sample 3.png: ")).wait_for()


def test_the_pointer_reads_class_and_confidence(page, site):
    upload(page, {"name": "one.png", "mimeType": "image/png", "buffer": encoded(drawn(), "PNG")})
    settle(page)
    _, content = download(page, page.get_by_role("button", name="Label map (PNG)"))
    label = np.asarray(Image.open(io.BytesIO(content)))
    image = page.get_by_role("img", name=re.compile("Overlay of one.png"))
    tip = page.locator(".tip")
    for value in np.unique(label):
        depth = cv2.distanceTransform((label == value).astype(np.uint8), cv2.DIST_L2, 3)  # far from any border
        row, column = np.unravel_index(depth.argmax(), label.shape)
        for _ in range(60):  # the page may still move under the pointer
            box = image.bounding_box()
            x, y = ((at + 0.5) / side for at, side in zip((column, row), label.shape[::-1]))
            image.hover(position={"x": x * box["width"], "y": y * box["height"]})
            if re.fullmatch(rf"{NAMES[value]}, \d+ %", tip.text_content()):
                break
            page.wait_for_timeout(500)
        else:
            pytest.fail(f"{NAMES[value]} at {row}, {column} reads {tip.text_content()}")
    page.mouse.move(5, 5)
    playwright.expect(tip).to_be_hidden(timeout=PATIENCE)


def test_a_class_gets_another_colour(page, site):
    upload(page, {"name": "one.png", "mimeType": "image/png", "buffer": encoded(drawn(), "PNG")})
    overlay = page.get_by_role("img", name=re.compile("Overlay of one.png"))
    before = overlay.get_attribute("src")
    page.get_by_text("Colours", exact=True).click()
    page.locator("[data-testid=stColorPickerBlock]").first.click()
    page.locator("input[id*=rc-editable-input]").first.fill("#12fe34")
    page.keyboard.press("Escape")
    playwright.expect(overlay).not_to_have_attribute("src", before, timeout=PATIENCE)
    page.locator("table.legend .swatch[style*='rgb(18,254,52)']").wait_for()
    page.get_by_role("button", name="Reset colours").click()
    playwright.expect(overlay).to_have_attribute("src", before, timeout=PATIENCE)


def test_images_that_no_browser_shows_are_segmented(page, site):
    files = [("IMG_1.HEIC", "heic", "HEIF"), ("cells.TIF", "tiff", "TIFF")]
    upload(page, *({"name": n, "mimeType": f"image/{kind}", "buffer": encoded(drawn(), f)} for n, kind, f in files))
    for name, _, _ in files:
        page.get_by_role("radio", name=re.compile(name)).click()
        page.get_by_role("img", name=re.compile(f"Overlay of {name}: ")).wait_for()


def test_the_reason_of_a_refusal_by_the_browser_is_seen(page, site):
    notes = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"notes"}
    page.locator("input[type=file]").set_input_files(notes)
    reason = page.get_by_text(re.compile("files are not allowed"))
    reason.wait_for()
    assert reason.bounding_box()["width"] > 100


def test_bad_uploads_leave_the_demo_alive_and_nothing_on_disk(page, site):
    before = listing(site)
    secret = np.random.default_rng(5).integers(0, 255, (700, 800, 3), np.uint8)
    files = {
        "cut.jpg": encoded(drawn())[:1500],
        "empty.png": b"",
        "bomb.png": png_header(20_000, 20_000),
        "<img src=x onerror=document.title='bad'>.png": encoded(drawn(), "PNG"),
        "page.jpg": b"<script>1</script>",
        "secret.png": encoded(secret, "PNG"),
    }
    upload(page, *({"name": n, "mimeType": "image/png", "buffer": d} for n, d in files.items()))
    page.get_by_role("radio", name=re.compile("secret.png")).click()
    page.get_by_role("img", name=re.compile("Overlay of secret.png")).wait_for()
    settle(page)
    lines = page.locator("[data-testid=stAlert]").inner_text().splitlines()
    refused = [next(name for name in files if line.startswith(f"{name}:")) for line in lines if ": " in line]
    assert refused == ["cut.jpg", "empty.png", "bomb.png", "page.jpg"]
    page.get_by_role("radio", name=re.compile("_img src")).click()
    page.get_by_text("_img src=x onerror=document.title='bad'_.png", exact=True).wait_for()
    settle(page)
    assert page.title() != "bad"
    assert listing(site) == before
    assert not any("deleted" in link and "tmp" in link for link in open_files(site["pid"]))
    page.reload()
    page.get_by_role("heading", name="Segment", exact=True).wait_for()
    assert listing(site) == before


def test_a_file_of_30_megabytes_is_refused_before_it_is_sent(page, site, tmp_path):
    (tmp_path / "huge.png").write_bytes(bytes(30 * 2**20))
    page.locator("input[type=file]").set_input_files(tmp_path / "huge.png")
    page.get_by_text(re.compile("must be 20.*MB or smaller")).wait_for()
    upload(page, {"name": "good.png", "mimeType": "image/png", "buffer": encoded(drawn(), "PNG")})


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
    page.get_by_role("img", name=re.compile("^merge_customize: mIoU")).wait_for()
    before = page.get_by_role("img", name=re.compile("^merge_customize: mIoU")).get_attribute("alt")
    page.get_by_role("combobox", name=re.compile("Tune")).click()
    page.get_by_role("option", name="max_iou", exact=True).click()
    slider = page.get_by_role("slider", name=re.compile("^threshold"))
    slider.focus()
    settle(page)
    score = page.get_by_role("img", name=re.compile("^max_iou: mIoU")).get_attribute("alt")
    slider.press("End")
    other_score(page, "max_iou", score)
    page.get_by_role("button", name="Find the best and the worst").click()
    page.get_by_text("Images better / worse").wait_for()
    thumbnails = page.get_by_role("radiogroup", name="Worst").get_by_role("radio")
    playwright.expect(thumbnails.locator("img")).to_have_count(3, timeout=PATIENCE)
    thumbnails.nth(1).click()
    settle(page)
    page.get_by_role("button", name="Next").click()
    settle(page)
    page.get_by_role("button", name="Previous").click()
    settle(page)

    strategy = site["project"] / "merge" / "merge_customize.py"
    text = strategy.read_text()
    strategy.write_text(text + "\n\ndef merge(label, masks, *, tags=None, cam=None):\n    return 0 * label\n")
    page.get_by_role("button", name="Rerun", exact=True).click()
    other_score(page, "merge_customize", before)
    strategy.write_text(text + "\nthis is not Python\n")
    page.get_by_role("button", name="Rerun", exact=True).click()
    page.get_by_text(re.compile("strategy merge_customize cannot be loaded")).wait_for()
    strategy.write_text(text)
    page.get_by_role("button", name="Rerun", exact=True).click()
    page.get_by_role("img", name=re.compile("^merge_customize: mIoU")).wait_for()


PAGES = ("Strategy lab", "Results", "Segment")


@pytest.mark.parametrize(("scheme", "width"), [("dark", 1280), ("light", 390)])
def test_every_page_fits_the_screen_in_its_theme(page, site, scheme, width):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    page.get_by_test_id("stExpandSidebarButton").wait_for()  # on a narrow screen the menu is closed
    page.set_viewport_size({"width": 1280, "height": 844})
    page.reload()
    settle(page)
    checkpoint = page.locator("[data-testid=stSidebar] [data-testid=stSelectbox] input")
    assert checkpoint.evaluate("box => getComputedStyle(box).textOverflow") == "ellipsis"
    assert page.get_by_test_id("stSidebar").get_by_text("Segmentation demo", exact=True).is_visible()
    for name in PAGES:
        page.set_viewport_size({"width": 1280, "height": 844})  # the menu over a narrow page closes at times of its own
        settle(page)
        if (menu := page.get_by_test_id("stExpandSidebarButton")).is_visible():
            menu.click()
        page.get_by_role("link", name=name).click()
        page.get_by_role("heading", name=name, exact=True).wait_for()
        page.set_viewport_size({"width": width, "height": 844})
        settle(page)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name
        assert is_dark(page) == (scheme == "dark"), name
    button = page.get_by_role("button", name="Download everything (ZIP)")
    colors = button.evaluate("(e) => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]")
    assert contrast(*colors) > 4.5, colors


def contrast(one, other):
    """Of two colours, as WCAG 2 counts it: 1 to 21."""
    lights = []
    for color in (one, other):
        parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)
    return max(lights) / min(lights)


def is_dark(page):
    color = page.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
    return sum(map(int, re.findall(r"\d+", color)[:3])) < 3 * 128


def test_uploads_stay_short_on_a_narrow_screen(page, site):
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    page.get_by_role("heading", name="Segment", exact=True).wait_for()
    files = [encoded(drawn(300, 400, seed)) for seed in range(5)]
    upload(page, *({"name": f"{n}.jpg", "mimeType": "image/jpeg", "buffer": data} for n, data in enumerate(files)))
    page.get_by_role("button", name="Download all 5").wait_for()
    buttons = [page.locator(".st-key-view").get_by_role("radio", name=name, exact=True) for name in ("Overlay", "All")]
    assert buttons[0].bounding_box()["y"] == buttons[1].bounding_box()["y"], "All is not alone on a line"
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight") < 2500
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    view(page, "All")
    boxes = [page.get_by_role("img", name=re.compile(name)).bounding_box() for name in ("^Overlay of", "^Label map of")]
    assert boxes[0]["width"] > 250 and boxes[1]["y"] > boxes[0]["y"] + 100  # below each other


def test_the_theme_can_be_set_by_option(browser, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", ROOT / "Web_demo" / "src" / "app.py", "--server.port", port]
    options = ["--server.headless", "true", "--", "--theme", "dark"]
    server = subprocess.Popen([*map(str, command), *options], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        address = next(line for line in server.stdout if "The demo is at" in line).split()[-1]
        context = browser.new_context(color_scheme="light")
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.goto(address)
        page.get_by_text("There is no trained network yet").wait_for()
        assert is_dark(page)
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("[...document.querySelectorAll('pre')].every((e) => e.scrollWidth <= e.clientWidth)")
        context.close()
    finally:
        server.kill()
        server.wait()


def test_the_network_was_loaded_once_for_all(site, page):
    settle(page)
    assert site["log"].read_text().count("loaded ") == 1
    # Streamlit's own server may print one for a browser that left in the middle of a message.
    assert not [trace for trace in site["log"].read_text().split("Traceback")[1:] if "Web_demo" in trace]
