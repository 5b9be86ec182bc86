"""Merge strategies: pseudo label + class-agnostic masks -> enhanced label. A new one is one file and one line here."""

from merge import cam_level, grow, max_iou, max_iou_imp, max_iou_imp2, merge_customize, prompted

STRATEGIES = {
    "grow": grow.merge,
    "max_iou": max_iou.merge,
    "max_iou_imp": max_iou_imp.merge,
    "max_iou_imp2": max_iou_imp2.merge,
    "cam_level": cam_level.merge,
    "prompted": prompted.merge,
    "merge_customize": merge_customize.merge,
}

RECOMMENDED = "grow"  # where no strategy is chosen
