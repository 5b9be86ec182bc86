"""Folders of mask images: the mask is what varies, whatever the values and the format; what is ambiguous is refused."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from util.data.mask_files import masks_bytes, read_masks
from util.runtime.errors import InputError

H, W = 48, 64
MASK = np.zeros((H, W), bool)
MASK[10:30, 20:50] = True
ONE = MASK.astype(np.uint8)
PHOTO = np.random.default_rng(0).integers(1, 256, (H, W, 3)).astype(np.uint8)


def palette(image, *colours):
    image = Image.fromarray(image)
    image.putpalette([value for colour in colours for value in colour] + [0] * (768 - 3 * len(colours)))
    return image


def colours(inside, outside=(0, 0, 0)):
    return np.where(MASK[..., None], np.array(inside, np.uint8), np.array(outside, np.uint8))


def transparent(image):
    image.info["transparency"] = 0
    return image


READ = {
    "0/255": 255 * ONE,
    "0/1": ONE,
    "0/7": 7 * ONE,
    "bool": MASK,
    "16 bit 0/1": ONE.astype(np.uint16),
    "16 bit 0/255": 255 * ONE.astype(np.uint16),
    "16 bit 0/65535": 65535 * ONE.astype(np.uint16),
    "palette of red": palette(ONE, (0, 0, 0), (128, 0, 0)),
    "palette of black alone": palette(ONE, (0, 0, 0), (0, 0, 0)),
    "palette of grey": palette(ONE, (0, 0, 0), (255, 255, 255)),
    "palette with white first": palette(1 - ONE, (255, 255, 255), (0, 0, 0)),
    "quantised": Image.fromarray(colours((255, 255, 255))).quantize(2),
    "red on black": colours((200, 30, 30)),
    "dark red on black": colours((60, 0, 0)),
    "white in three channels": colours((255, 255, 255)),
    "ones in three channels": colours((1, 1, 1)),
    "white with alpha": np.dstack([np.full((H, W, 3), 255, np.uint8), 255 * ONE]),
    "grey with alpha": np.dstack([np.full((H, W), 255, np.uint8), 255 * ONE]),
    "white with faint alpha": np.dstack([np.full((H, W, 3), 255, np.uint8), 89 * ONE]),
    "red with a full alpha": np.dstack([colours((200, 30, 30)), np.full((H, W), 255, np.uint8)]),
    "red with its alpha": np.dstack([colours((200, 30, 30)), 255 * ONE]),
    "palette with a transparent index": transparent(palette(ONE, (0, 0, 0), (128, 0, 0))),
    "object cut out of its image": np.dstack([PHOTO, 255 * ONE]),
}


def put(folder, **images):
    (folder / "a").mkdir(exist_ok=True)
    for name, image in images.items():
        image = image if isinstance(image, Image.Image) else Image.fromarray(image)
        image.save(folder / "a" / name.replace("_", "."))


@pytest.mark.parametrize("kind", READ)
def test_the_mask_is_what_varies(tmp_path, kind):
    put(tmp_path, **{"0_png": READ[kind]})
    masks = read_masks(tmp_path, "a", (H, W))
    assert len(masks) == 1 and np.array_equal(masks.dense(0), MASK)


@pytest.mark.parametrize("value", [1, 255])
def test_masks_of_nothing_and_of_everything(tmp_path, value):
    put(tmp_path, **{"0_png": 0 * ONE, "1_png": np.full((H, W), value, np.uint8)})
    assert read_masks(tmp_path, "a", (H, W)).areas.tolist() == [0, H * W]


REFUSED = {
    "numbers of objects": (
        ONE + (np.arange(W) > 35),
        "0, 1, 2 may be one mask, faint or soft, or the numbers of several",
    ),
    "numbers of objects, spread": (
        ONE * np.repeat([[64, 128, 192]], [30, 10, 24], axis=1).astype(np.uint8),
        "0, 64, 128",
    ),
    "a colour for each object": (
        colours((200, 30, 30)) + (np.arange(W) > 35)[:, None] * np.uint8([0, 90, 0]),
        "several",
    ),
    "the image itself": (PHOTO, "several objects"),
    "red on white": (colours((200, 30, 30), (255, 255, 255)), "several objects"),
    "soft": (np.linspace(0, 255, H * W).reshape(H, W).astype(np.uint8), "faint or soft"),
    "colour and alpha differ": (
        np.dstack([colours((255, 255, 255)), 255 - 255 * ONE]),
        "colour and alpha show different",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_may_be_several_masks_is_refused(tmp_path, kind):
    image, message = REFUSED[kind]
    put(tmp_path, **{"0_png": image.astype(np.uint8)})
    with pytest.raises(InputError, match=f"0.png: .*{message}.*save"):
        read_masks(tmp_path, "a", (H, W))


@pytest.mark.parametrize("name", ["0_png", "0_PNG", "0_Png", "0_jpg", "0_JPEG", "0_tif", "0_TIFF", "0_bmp", "0_webp"])
def test_formats_and_suffixes(tmp_path, name):
    put(tmp_path, **{name: 255 * ONE})
    assert (read_masks(tmp_path, "a", (H, W)).dense(0) ^ MASK).sum() <= 4
    assert masks_bytes(tmp_path / "a") == (tmp_path / "a" / name.replace("_", ".")).read_bytes()


def test_scaled_masks_with_soft_edges(tmp_path):
    put(tmp_path, **{"0_png": Image.fromarray(255 * ONE).filter(ImageFilter.GaussianBlur(1))})
    assert (read_masks(tmp_path, "a", (H, W)).dense(0) ^ MASK).sum() < 20


def test_arrays_in_a_folder(tmp_path):
    put(tmp_path, **{"1_png": 255 - 255 * ONE})
    np.save(tmp_path / "a" / "0.npy", MASK)
    assert read_masks(tmp_path, "a", (H, W)).areas.tolist() == [600, H * W - 600]
    np.save(tmp_path / "a" / "0.npy", np.stack([MASK, MASK]))
    with pytest.raises(InputError, match="0.npy: 2 masks"):
        read_masks(tmp_path, "a", (H, W))


def test_hidden_files_are_passed_over(tmp_path):
    put(tmp_path, **{"0_png": 255 * ONE})
    before = masks_bytes(tmp_path / "a")
    for name in ("._0.png", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (tmp_path / "a" / name).write_bytes(bytes.fromhex("0005160700020000") + bytes(100))
    assert read_masks(tmp_path, "a", (H, W)).areas.tolist() == [600] and masks_bytes(tmp_path / "a") == before


def test_a_folder_with_files_but_no_mask_is_an_error(tmp_path):
    (tmp_path / "a").mkdir()
    assert len(read_masks(tmp_path, "a", (H, W))) == 0
    (tmp_path / "a" / "metadata.csv").write_text("id,area,predicted_iou,stability_score\n")
    assert len(read_masks(tmp_path, "a", (H, W))) == 0, "amg.py found none"
    (tmp_path / "a" / "mask.svg").write_text("<svg/>")
    with pytest.raises(
        InputError, match="1 files, such as mask.svg, and none of them a mask .*save each mask as a PNG"
    ):
        read_masks(tmp_path, "a", (H, W))
