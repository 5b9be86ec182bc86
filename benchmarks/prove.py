"""Everything that this project claims of its safety and speed, put to the proof by one command.

    python benchmarks/prove.py --voc VOC2012 --encoder-weights mobilenet_v2.pth    # in full: about half an hour
    python benchmarks/prove.py --short                                             # a few minutes, on generated data

Stops every script twenty times at random moments, fills disks, takes rights away and gives bad input (tests/faults),
fuzzes the parsers (needs `pip install atheris`), audits the dependencies (needs `pip install pip-audit` and a network),
measures speed and size against what people use today (benchmarks/run.py), and runs a data set of COCO's order of size
(benchmarks/scale.py). Each part prints its own table; the last table says which parts passed. Exit code 1 if one did not.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from util.runtime.cli import Parser, run


def main() -> int:
    parser = Parser(__doc__)
    parser.add_argument("--voc", type=Path, metavar="DIR", help="real pictures and labels for benchmarks/run.py")
    parser.add_argument(
        "--encoder-weights", type=Path, metavar="FILE", help="of the network that benchmarks/run.py trains"
    )
    parser.add_argument("--seconds", type=int, metavar="N", help="of fuzzing (default: 600; 30 with --short)")
    parser.add_argument("--short", action="store_true", help="few kills, small inputs: shows that it runs")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), metavar="PART", help=f"of {', '.join(PARTS)}")
    args = parser.parse_args()
    outcomes = {}
    for name in args.only or PARTS:
        command = [str(part) for part in PARTS[name](args)]
        print(f"\n== {name}: {' '.join(command)}", flush=True)
        begun = time.monotonic()
        code = subprocess.call([sys.executable, *command], cwd=ROOT, env=environment(args))
        outcomes[name] = code, time.monotonic() - begun
    print(f"\n{'part':<14}{'minutes':>8}  outcome")
    for name, (code, seconds) in outcomes.items():
        print(f"{name:<14}{seconds / 60:>8.1f}  {'passed' if code == 0 else f'FAILED (exit code {code})'}")
    return int(any(code for code, _ in outcomes.values()))


def environment(args) -> dict[str, str]:
    kills = {} if args.short else {"WSSS_KILLS": "20"}
    return {**os.environ, **kills, "OMP_NUM_THREADS": "1"}


def benchmark(args) -> list:
    given = [("--voc", args.voc), ("--encoder-weights", args.encoder_weights)]
    options = [part for option, value in given if value for part in (option, value.resolve())]
    return ["benchmarks/run.py", *options, *(["--short"] if args.short else [])]


PARTS = {
    "faults": lambda args: ["-m", "pytest", "-q", "tests/faults"],
    "fuzzing": lambda args: ["tests/faults/fuzz.py", "--seconds", args.seconds or (30 if args.short else 600)],
    "dependencies": lambda args: ["-m", "pip_audit", "--strict", "--requirement", "requirements.txt"],
    "speed": benchmark,
    "scale": lambda args: ["benchmarks/scale.py", *(["--images", 600, "--distinct", 10] if args.short else [])],
}


if __name__ == "__main__":
    run(main)
