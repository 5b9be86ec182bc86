"""Segment images with a trained network. No list and no ground truth are needed.

    python predict.py --checkpoint runs/deeplab/last.pth --images holiday --out predictions
    python predict.py --checkpoint net.onnx --images a.jpg "shots/*/*.png" --format labelme coco-json --out predictions
    torchrun --nproc-per-node=4 predict.py --checkpoint ...        shared out over processes

Writes OUT/labels/<id>.png (label maps), OUT/overlays/<id>.jpg with OUT/legend.png, OUT/summary.csv (share and mean confidence of every class in
every image) and, if wanted, OUT/confidence/<id>.png, OUT/probabilities/<id>.npy, OUT/labelme/<id>.json and OUT/annotations.json
(COCO). Subfolders are kept. Images are seen at the size that the network was trained at; those beyond memory are cut into tiles.
Re-run the command to resume; up-to-date results are reused.
"""

from argparse import Namespace

from models.segmentation.options import FORMATS, OF_CHECKPOINT, Prediction
from util.runtime.cli import COMMON, Parser, real, run


def parse_args() -> Namespace:
    parser = Parser(__doc__)
    images = {
        "type": str,
        "nargs": "+",
        "metavar": "DIR|FILE|GLOB",
        "help": "folder of images; several, single images and patterns in quotes as well",
    }
    labels = {"help": f"{COMMON['image-labels'].help}; each image is restricted to its classes"}
    checkpoint = {"help": f"{COMMON['checkpoint'].help}, or what export.py made of it"}
    needed = ("checkpoint", "images", "out")
    parser.add_common(*needed, required=needed, images=images, checkpoint=checkpoint)
    parser.add_common("list", required=(), list={"help": f"{COMMON['list'].help}: segment only these of --images"})
    parser.add_common("image-labels", "scales", "flip", "long-side", "full-size", image_labels=labels)
    parser.add_common("encoder", "class-names", **OF_CHECKPOINT)
    parser.add_common("overwrite", "device", "amp", amp={"default": Prediction.amp})
    output = parser.group("output")
    output.add_argument(
        "--format",
        nargs="+",
        choices=FORMATS,
        default=list(Prediction.formats),
        metavar="NAME",
        help="what to write besides the label maps, which are always written: overlay, coco-json, labelme; label-map for nothing else",
    )
    output.add_argument("--confidence", action="store_true", help="write confidence maps, 8-bit grey, 255 = 1")
    soft = "write the probability of each class but the background as soft CAMs, .npy, which main.py --cam-path takes; no tiles"
    output.add_argument("--probabilities", action="store_true", help=soft)
    output.add_argument(
        "--min-confidence",
        type=real(0, 1),
        default=Prediction.min_confidence,
        metavar="P",
        help="pixels of lower probability (0 to 1) become void",
    )
    return parser.parse_args()


def main() -> int:
    args = parse_args()

    from models.segmentation.predict import run as predict

    return predict(args)


if __name__ == "__main__":
    run(main)
