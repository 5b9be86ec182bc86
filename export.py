"""Export a trained network for other programs.

    python export.py --checkpoint runs/deeplab/last.pth --format onnx --out net.onnx
    python export.py --checkpoint runs/deeplab/last.pth --format smp --out net

onnx: takes RGB values 0 to 255, float32 Bx3xHxW of any size, and gives logits BxCxHxW; the normalisation is inside, class
names and colours are in its metadata. predict.py opens it as well. Needs onnx and onnxruntime.
smp: a folder that segmentation_models_pytorch.from_pretrained loads and that can be pushed to the Hugging Face hub.
Either is checked against the checkpoint at once: the largest difference and both speeds are printed.
"""

from argparse import Namespace

from models.segmentation.options import EXPORTS, OF_CHECKPOINT
from util.runtime.cli import Parser, print_next, run


def parse_args() -> Namespace:
    parser = Parser(__doc__)
    out = {"metavar": "PATH", "help": "folder for the results; for onnx, a file"}
    parser.add_common("checkpoint", "out", required=("checkpoint", "out"), out=out)
    parser.add_common("encoder", "class-names", **OF_CHECKPOINT)
    parser.group("output").add_argument("--format", choices=EXPORTS, default="onnx", help="what to write")
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    from models.segmentation.export import export

    export(args.checkpoint, args.format, args.out, args.encoder, args.class_names)
    print(f"{args.out}: written")
    if args.format == "onnx":
        print_next("predict.py", "--checkpoint", args.out, "--images", "new_images", "--out", "predictions")
    return 0


if __name__ == "__main__":
    run(main)
