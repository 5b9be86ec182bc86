"""The web demo under load: time from upload to picture, then many visitors at once, in real browsers on this machine.

    python benchmarks/web_demo_load.py --checkpoint runs/deeplabv3/best.pth --images JPEGImages
    python benchmarks/web_demo_load.py --sessions 10 --seconds 300        a network without training, generated pictures

Starts a server on 127.0.0.1 and drives Debian's chromium with Playwright. First one visitor uploads pictures one after
another, each timed from the choice of the file to the overlay on the screen. Then all visitors together upload, move the
slider, switch classes and fetch masks, until the time is over. Printed: times, what went wrong, how often a model was
loaded, and the server's memory over time. Exit code 1 if anything went wrong or memory grew by more than a tenth in the
second half.
"""

import asyncio
import itertools
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "web_demo"))

from util.runtime.cli import Parser, run

ROOT = Path(__file__).resolve().parent.parent
WAIT = 120_000  # milliseconds


def parse_arguments():
    parser = Parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="of train_deeplabv3.py (default: untrained)")
    parser.add_common("images")
    parser.add_argument(
        "--single", type=int, default=12, metavar="N", help="timed uploads of one visitor (default: 12)"
    )
    parser.add_argument("--sessions", type=int, default=10, metavar="N", help="visitors at once (default: 10)")
    parser.add_argument("--seconds", type=int, default=300, metavar="S", help="how long they stay (default: 300)")
    args = parser.parse_args()
    if args.sessions > 50 or args.seconds > 600:
        parser.error("--sessions goes to 50 and --seconds to 600")
    return args


def main():
    args = parse_arguments()
    from web_demo_data import encoded, photograph, write_checkpoint

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        from util.runtime.errors import InputError

        raise InputError("no chromium is found; install Debian's: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        checkpoint = args.checkpoint or write_checkpoint(folder / "network.pth")
        if args.images:
            files = sorted(args.images.glob("*.jpg"))[:60]
        else:
            files = [folder / f"{number}.jpg" for number in range(20)]
            for number, file in enumerate(files):
                file.write_bytes(encoded(photograph(375, 500, seed=number)))
        with Server(checkpoint.resolve(), folder) as server:
            return asyncio.run(visit(args, chromium, server, files))


class Server:
    """The demo on a free port of this machine."""

    def __init__(self, checkpoint, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address, self.log = f"http://127.0.0.1:{self.port}", folder / "log.txt"
        self.command = [
            sys.executable, "-m", "streamlit", "run", str(ROOT / "Web_demo" / "src" / "app.py"), "--server.port",
            str(self.port), "--server.headless", "true", "--", "--checkpoint", str(checkpoint), "--device", "cpu",
        ]  # fmt: skip

    def __enter__(self):
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, cwd=self.log.parent)
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.1)
        raise RuntimeError(self.log.read_text())

    def __exit__(self, *exception):
        self.process.terminate()
        self.process.wait(timeout=30)

    def memory(self):
        """Megabytes that the server holds, in memory or swapped out; pages of files, which the system drops at will, not."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return sum(int(re.search(rf"{name}:\s+(\d+)", status)[1]) for name in ("RssAnon", "VmSwap")) / 1024


async def visit(args, chromium, server, files):
    from playwright.async_api import async_playwright

    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        problems, times = [], []
        page = await open_page(browser, server, problems)
        for file in files[: args.single]:
            times.append(await upload(page, file))
        told = await page.get_by_text(re.compile(r"done in ([\d.]+) s")).first.inner_text()
        await page.context.close()
        print(f"one visitor, {len(times)} uploads, from the file's choice to the overlay on the screen: "
              f"median {statistics.median(times):.2f} s, longest {max(times):.2f} s (the first: {times[0]:.2f} s); "
              f"the page's last word: {told!r}", flush=True)  # fmt: skip
        end, memory, done = time.monotonic() + args.seconds, [], []
        visitors = [stay(browser, server, files[number:] + files[:number], end, done, problems)
                    for number in range(args.sessions)]  # fmt: skip
        await asyncio.gather(watch(server, end, memory, min(15, args.seconds / 8)), *visitors)
        await browser.close()
    loaded = server.log.read_text().count("loaded ")
    second_half = [value for moment, value in memory if moment > args.seconds / 2]
    growth = second_half[-1] / second_half[0] - 1
    print(f"{args.sessions} visitors for {args.seconds} s: {len(done)} uploads answered, median {statistics.median(done):.2f} s, "
          f"longest {max(done):.2f} s; models loaded: {loaded}; problems: {len(problems)}")  # fmt: skip
    print("memory, MB:", ", ".join(f"{moment:.0f} s {value:.0f}" for moment, value in memory))
    print(f"growth in the second half: {100 * growth:+.1f} %")
    for problem in problems[:20]:
        print("problem:", problem)
    traceback = "Traceback" in server.log.read_text()
    return 1 if problems or traceback or loaded != 1 or growth > 0.1 else 0


async def watch(server, end, memory, every):
    begun = time.monotonic()
    while time.monotonic() < end:
        memory.append((time.monotonic() - begun, server.memory()))
        await asyncio.sleep(every)


async def open_page(browser, server, problems):
    context = await browser.new_context(accept_downloads=True)
    context.set_default_timeout(WAIT)
    page = await context.new_page()
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    await page.goto(server.address)
    await page.get_by_role("heading", name="What is in the picture?").wait_for()
    await page.locator("input[type=file]").wait_for(state="attached")
    return page


async def upload(page, file):
    """Replace the picture by another; seconds until its overlay is drawn."""
    for remove in await page.locator("[data-testid=stFileChipDeleteBtn] button").all():
        await remove.click()
        await page.get_by_role("img", name=re.compile("laid over it")).first.wait_for(state="detached")
    begun = time.perf_counter()
    await page.locator("input[type=file]").set_input_files(file)
    await page.wait_for_function(
        "name => [...document.images].some(i => i.alt.startsWith(name + ' with its mask') && i.complete && i.naturalWidth)",
        arg=file.name,
    )
    return time.perf_counter() - begun


async def stay(browser, server, files, end, done, problems):
    page = await open_page(browser, server, problems)
    try:
        for file in itertools.cycle(files):
            if time.monotonic() > end:
                break
            done.append(await upload(page, file))
            slider = page.get_by_role("slider", name="Strength of the colours")
            await slider.focus()
            await slider.press("ArrowRight")
            await page.get_by_text("Show how sure the model is").click()
            async with page.expect_download() as event:
                await page.get_by_role("button", name="Mask (PNG)").first.click()
            if not (await (await event.value).path()).stat().st_size:
                problems.append(f"{file.name}: an empty mask")
            if await page.locator("[data-testid=stException], [data-testid=stAlertContentError]").count():
                problems.append(f"{file.name}: an error on the page")
    except Exception as error:  # a visitor's trouble is a finding; the others stay
        problems.append(f"{type(error).__name__}: {error}")
    await page.context.close()


if __name__ == "__main__":
    run(main)
