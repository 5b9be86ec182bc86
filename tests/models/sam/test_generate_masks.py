"""The stage behind generate_sam_masks.py: what the thread of the network is spared."""

import argparse
import threading

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from sam_reference import changed, small_sam

from models.sam import generate, generator, networks, sources
from models.sam.generator import MaskGenerator
from models.sam.prompted import PromptedGenerator
from models.sam.prompts import Prompt
from util.data.mask_files import read_masks
from util.runtime.distributed import Dist

IDS = [f"p{number}" for number in range(3)]
OPTIONS = changed(points_per_side=3, pred_iou_thresh=0, stability_score_thresh=0, min_mask_region_area=5)
CROPPED = changed(points_per_side=3, pred_iou_thresh=0, stability_score_thresh=0, crop_n_layers=1)


@pytest.fixture
def args(tmp_path):
    for number, image_id in enumerate(IDS):
        pixels = np.random.default_rng(number).integers(0, 256, (60, 90, 3), np.uint8)
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{image_id}.png")
    return argparse.Namespace(images=tmp_path / "images", out=tmp_path / "out", gzip=False)


def asked(kind, sam):
    if kind == "prompts":
        places = [(15.0, 15.0), (45.0, 15.0), (15.0, 45.0), (45.0, 45.0), (80.0, 30.0)]
        prompts = [Prompt(f"{place}", np.array([place]), np.array([1]), None, "points") for place in places]
        return sources.Listed(PromptedGenerator(sam, OPTIONS), dict.fromkeys(IDS, prompts))
    grid = sources.Grid(MaskGenerator(sam, CROPPED if kind == "crops" else OPTIONS, encode_batch=2))
    return sources.Several([grid, grid]) if kind == "several" else grid


def write(args, source):
    with generate.Stage(args.out, {}, overwrite=True) as stage:
        work = generate.find_work(args, stage, source, IDS)
        setup = generate.Setup(source, 2, {}, [])
        generate.write_all(args, Dist(0, 1, 0, torch.device("cpu")), stage, setup, work)
        return stage.finish()


def in_main_thread(monkeypatch, seen, owner, name):
    """Note in ``seen`` whether each call is made in the main thread."""
    work = getattr(owner, name)

    def call(*arguments, **options):
        seen.setdefault(name, set()).add(threading.current_thread() is threading.main_thread())
        return work(*arguments, **options)

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("kind", ["grid", "crops", "several", "prompts"])
def test_only_the_network_works_in_the_main_thread(args, monkeypatch, kind):
    seen = {}
    in_main_thread(monkeypatch, seen, Image.Image, "resize")
    in_main_thread(monkeypatch, seen, generate, "read_image")
    in_main_thread(monkeypatch, seen, generate, "write_masks")
    in_main_thread(monkeypatch, seen, MaskGenerator, "_coded")
    in_main_thread(monkeypatch, seen, generator, "clean_masks")
    in_main_thread(monkeypatch, seen, networks.PackageNetwork, "embed")
    assert write(args, asked(kind, small_sam())) == 0
    assert seen.pop("embed") == {True}
    expected = {"resize", "read_image", "write_masks"}
    expected |= {"grid": {"_coded", "clean_masks"}, "several": {"_coded", "clean_masks"}, "crops": {"_coded"}}.get(
        kind, set()
    )
    assert seen == dict.fromkeys(expected, {False})


@pytest.mark.parametrize("kind", ["grid", "crops", "several", "prompts"])
def test_masks_are_those_of_one_thread(args, kind):
    """As many images and crops at once go through the encoder in both ways."""
    sam = small_sam()
    source = asked(kind, sam)
    write(args, source)
    images = [np.asarray(Image.open(args.images / f"{image_id}.png")) for image_id in IDS]
    if kind == "prompts":
        expected = [*source.generator.answer(images, [source.prompts[image_id] for image_id in IDS])]
    else:
        grid = source.sources[0].generator if kind == "several" else source.generator
        expected = [masks for part in (images[:2], images[2:]) for masks in grid.generate(part)]
    assert sum(map(len, expected)) > 0
    for image_id, masks in zip(IDS, expected, strict=True):
        assert read_masks(args.out, image_id).counts() == masks.counts() * (2 if kind == "several" else 1)
