"""The whole pipeline in one command: classifier, CAM labels, masks, merging, DeepLabV3+, tables.

    python quickstart.py

draws a small data set, so it needs no download, and takes a few minutes on two cores. Its labels come from image-level
labels alone: the ground truth serves for scores, at the end. On real data in VOC's layout (see prepare_voc.py and
prepare_folder.py) the same stages run as

    python quickstart.py --voc VOC2012 --sam-checkpoint sam_vit_h_4b8939.pth --out runs/voc

and with --download from an empty disk. Without ground truth the same command ends with a trained network, and shows
what the merge changed instead of scores.

--cams takes soft CAMs of another repository, and no classifier is trained.
--sam-model takes any SAM of generate_sam_masks.py, --prompt what it is asked. With --prompt tags alone, SAM 3's masks of
the class names become the labels, and neither classifier nor CAMs are made:

    python quickstart.py --voc VOC2012 --sam-model sam3 --prompt tags --out runs/sam3

Stages, in this order: data (draw or download the images), cam (train_transcam.py), labels (generate_cams.py), masks
(generate_sam_masks.py), merge (main.py), check (check_pseudo_label.py), deeplab (train_deeplabv3.py on the CAM labels
and on the enhanced ones), score (evaluate_enhanced.py). Re-run the command to resume. Leave stages out with --skip or
--only; hand further options to their scripts with --with, for instance

    --with "cam=--method transcam --weights Conformer_small_patch16.pth" --with "deeplab=--encoder resnet101 --epochs 30"

Several GPUs are used through torchrun. Writes OUT/tables.txt, OUT/summary.json and a folder per stage.
"""

from pipeline.options import Settings, parse
from util.runtime.cli import run


def parse_args() -> Settings:
    return parse(__doc__)


def main() -> int:
    settings = parse_args()
    from pipeline import runner

    return runner.run(settings)


if __name__ == "__main__":
    run(main)
