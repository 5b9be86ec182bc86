"""Coverage-guided fuzzing of every parser, with atheris (pip install atheris).

    python tests/faults/fuzz.py --seconds 300

Each parser has its share of the time, in a process of its own. An input that ends in anything but an answer or an
InputError, or takes longer than 20 seconds or 2 GB, is a crash: it is kept in --findings, and the exit code is 1.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=300, help="in all (default: 300)")
    parser.add_argument(
        "--findings", type=Path, default=Path(tempfile.gettempdir(), "findings"), help="folder for inputs that crash"
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args, more = parser.parse_known_args()
    if args.one:
        return fuzz(args.one, more)

    from parsers import EXAMPLES, PARSERS

    share = max(1, args.seconds // len(PARSERS))
    runs = crashes = 0
    for name in PARSERS:
        with tempfile.TemporaryDirectory() as seeds:
            for number, data in enumerate(EXAMPLES[name]):
                Path(seeds, str(number)).write_bytes(data)
            args.findings.mkdir(parents=True, exist_ok=True)
            prefix = args.findings / name.replace(" ", "_")
            command = [
                sys.executable,
                __file__,
                "--one",
                name,
                f"-max_total_time={share}",
                "-timeout=20",
                "-rss_limit_mb=2048",
                f"-artifact_prefix={prefix}.",
                seeds,
            ]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        found = re.findall(r"Done (\d+) runs|^#(\d+)\t", done.stderr, re.MULTILINE)
        count = max((int(a or b) for a, b in found), default=0)
        runs, crashes = runs + count, crashes + (done.returncode != 0)
        print(f"{name:16} {share:4} s {count:9} inputs  {'crash' if done.returncode else 'no crash'}", flush=True)
        if done.returncode:
            print(done.stderr[-3000:])
    print(f"{'all':16} {share * len(PARSERS):4} s {runs:9} inputs  {crashes} crashes")
    return 1 if crashes or not runs else 0


def fuzz(name: str, options: list[str]) -> int:
    import atheris

    with atheris.instrument_imports(include=["util", "csv", "json", "xml"]):
        from parsers import try_one

    atheris.Setup([sys.argv[0], *options], lambda data: try_one(name, data) and None)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
