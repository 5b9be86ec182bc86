"""prepare_voc.py on small archives of the published layout, whole, cut short, hostile and missing."""

import io
import tarfile

import numpy as np
import pytest
from helpers import run_script
from PIL import Image
from scipy.io import savemat

from util.data.ids import read_id_list
from util.data.image_labels import read_image_labels
from util.data.labels import encode_label, read_label
from util.data.sbd import decode_sbd
from util.data.voc import load_classes
from util.runtime.errors import InputError

VOC_TRAIN, VOC_VAL = ["2007_000032", "2007_000039"], ["2007_000033", "2007_000042"]
SBD_TRAIN, SBD_VAL = ["2008_000008", "2007_000033"], ["2008_000015", "2007_000032"]  # SBD's lists cross VOC's
HEIGHT, WIDTH = 24, 32


def image_bytes(seed):
    pixels = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def label_of(value):
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[4:12, 6:20] = value
    return label


def annotation(*names):
    objects = "".join(f"<object><name>{name}</name></object>" for name in names)
    return f"<annotation>{objects}</annotation>".encode()


def mat_bytes(label, **options):
    boundaries = np.empty(20, object)
    boundaries[:] = [np.zeros((2, 2))] * 20
    content = {"Segmentation": label, "Boundaries": boundaries, "CategoriesPresent": np.array([8])}
    buffer = io.BytesIO()
    savemat(buffer, {"GTcls": content}, **options)
    return buffer.getvalue()


def voc_files():
    root = "VOCdevkit/VOC2012"
    every = [*VOC_TRAIN, *VOC_VAL, "2008_000008", "2008_000015", "2008_000099"]
    files = {f"{root}/JPEGImages/{i}.jpg": image_bytes(n) for n, i in enumerate(every)}
    files |= {f"{root}/Annotations/{i}.xml": annotation("cat") for i in every}
    files[f"{root}/Annotations/2008_000015.xml"] = annotation("cat", "person", "cat")
    for number, image_id in enumerate([*VOC_TRAIN, *VOC_VAL]):
        label = label_of(8)
        label[0, number] = 255
        files[f"{root}/SegmentationClass/{image_id}.png"] = encode_label(label)
        files[f"{root}/SegmentationObject/{image_id}.png"] = encode_label(label_of(1))
    lists = {"train": VOC_TRAIN, "val": VOC_VAL, "trainval": [*VOC_TRAIN, *VOC_VAL]}
    for name, ids in lists.items():
        files[f"{root}/ImageSets/Segmentation/{name}.txt"] = ("\n".join(ids) + "\n").encode()
    files[f"{root}/ImageSets/Main/train.txt"] = b"2008_000099\n"
    return files


def sbd_files():
    root = "benchmark_RELEASE/dataset"
    files = {f"{root}/cls/{i}.mat": mat_bytes(label_of(15), do_compression=True) for i in [*SBD_TRAIN, *SBD_VAL]}
    files[f"{root}/inst/2008_000008.mat"] = b"not read"
    files[f"{root}/train.txt"] = "\n".join(SBD_TRAIN).encode()
    files[f"{root}/val.txt"] = "\n".join(SBD_VAL).encode()
    return files


def write_archive(path, files, mode):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


@pytest.fixture
def archives(tmp_path):
    write_archive(tmp_path / "downloads/VOCtrainval_11-May-2012.tar", voc_files(), "w")
    write_archive(tmp_path / "downloads/benchmark.tgz", sbd_files(), "w:gz")
    return tmp_path / "downloads"


def prepare(archives, out, *more):
    return run_script("prepare_voc.py", "--archives", archives, "--out", out, "--workers", 1, *more)


def test_whole_archives_give_the_layout_that_the_stages_read(archives, tmp_path):
    out = tmp_path / "VOC2012"
    done = prepare(archives, out, "--partial")
    assert done.returncode == 0, done.stderr
    lists = out / "ImageSets/Segmentation"
    assert read_id_list(lists / "train.txt") == VOC_TRAIN and read_id_list(lists / "val.txt") == VOC_VAL
    # VOC's train and all of SBD, but nothing of VOC's val.
    assert read_id_list(lists / "trainaug.txt") == ["2007_000032", "2007_000039", "2008_000008", "2008_000015"]
    labels = out / "SegmentationClassAug"
    assert sorted(path.stem for path in labels.glob("*.png")) == sorted(
        [*VOC_TRAIN, *VOC_VAL, "2008_000008", "2008_000015"]
    )
    assert set(np.unique(read_label(labels / "2007_000032.png"))) == {0, 8, 255}, "VOC's own label, not SBD's"
    assert (read_label(labels / "2008_000008.png") == label_of(15)).all()
    assert (labels / "2007_000033.png").read_bytes() == (out / "SegmentationClass/2007_000033.png").read_bytes()
    assert (out / "JPEGImages/2008_000099.jpg").read_bytes() == image_bytes(6)
    tags = read_image_labels(out / "cls_labels.npy", load_classes())
    assert tags["2008_000015"] == (8, 15) and tags["2007_000032"] == (8,) and "2008_000099" not in tags
    assert not list(tmp_path.rglob("SegmentationObject")) and not (out / "inst").exists()


def test_counts_are_held_against_the_published_ones(archives, tmp_path):
    done = prepare(archives, tmp_path / "VOC2012")
    assert done.returncode == 1
    assert "10,582" in done.stdout and "17,125" in done.stdout and "--partial" in done.stderr


def test_a_second_run_writes_nothing_and_fixes_what_is_damaged(archives, tmp_path):
    out = tmp_path / "VOC2012"
    prepare(archives, out, "--partial")
    kept, damaged = out / "JPEGImages/2007_000032.jpg", out / "SegmentationClassAug/2008_000008.png"
    before, whole = kept.stat().st_mtime_ns, damaged.read_bytes()
    damaged.write_bytes(whole[:40])
    (out / "SegmentationClassAug/2007_000039.png").unlink()
    assert prepare(archives, out, "--partial").returncode == 0
    assert kept.stat().st_mtime_ns == before
    assert damaged.read_bytes() == whole and (out / "SegmentationClassAug/2007_000039.png").exists()


def test_unpacked_folders_do_as_well(archives, tmp_path):
    unpacked = tmp_path / "unpacked"
    for name in ("VOCtrainval_11-May-2012.tar", "benchmark.tgz"):
        with tarfile.open(archives / name) as tar:
            tar.extractall(unpacked, filter="data")
    assert prepare(unpacked, tmp_path / "VOC2012", "--partial").returncode == 0
    assert len(read_id_list(tmp_path / "VOC2012/ImageSets/Segmentation/trainaug.txt")) == 4


def test_voc_alone(archives, tmp_path):
    (archives / "benchmark.tgz").unlink()
    done = prepare(archives, tmp_path / "VOC2012", "--partial", "--no-sbd")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "VOC2012/ImageSets/Segmentation/trainaug.txt").exists()


def test_a_missing_archive_is_named_with_its_address_and_place(archives, tmp_path):
    (archives / "benchmark.tgz").unlink()
    done = prepare(archives, tmp_path / "VOC2012")
    assert done.returncode == 2
    assert "semantic_contours/benchmark.tgz" in done.stderr and str(archives / "benchmark.tgz") in done.stderr
    assert "VOCtrainval" not in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "VOC2012").exists()


@pytest.mark.parametrize("name", ["VOCtrainval_11-May-2012.tar", "benchmark.tgz"])
def test_an_archive_that_is_cut_short_is_reported_and_a_whole_one_goes_on_from_there(archives, tmp_path, name):
    whole = (archives / name).read_bytes()
    (archives / name).write_bytes(whole[: len(whole) // 2])
    done = prepare(archives, tmp_path / "VOC2012", "--partial")
    assert done.returncode == 2 and name in done.stderr and "again" in done.stderr and "Traceback" not in done.stderr
    (archives / name).write_bytes(whole)
    assert prepare(archives, tmp_path / "VOC2012", "--partial").returncode == 0


def test_names_that_lead_out_of_the_folder_and_links_are_not_followed(archives, tmp_path):
    path = archives / "VOCtrainval_11-May-2012.tar"
    with tarfile.open(path, "a") as tar:
        for name in ("../JPEGImages/../../evil.jpg", "/JPEGImages/..", "JPEGImages/../../evil.jpg"):
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
        link = tarfile.TarInfo("VOCdevkit/VOC2012/JPEGImages/2007_000032.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert prepare(archives, tmp_path / "VOC2012", "--partial").returncode == 0
    assert not list(tmp_path.rglob("evil.jpg"))
    assert (tmp_path / "VOC2012/JPEGImages/2007_000032.jpg").read_bytes() == image_bytes(0)


def test_a_damaged_label_is_reported_and_the_rest_goes_on(archives, tmp_path):
    files = sbd_files()
    files["benchmark_RELEASE/dataset/cls/2008_000008.mat"] = b"\0" * 300
    files["benchmark_RELEASE/dataset/cls/2008_000015.mat"] = mat_bytes(label_of(15)[:, :-1])
    write_archive(archives / "benchmark.tgz", files, "w:gz")
    done = prepare(archives, tmp_path / "VOC2012", "--partial")
    assert done.returncode == 1
    assert "2008_000008" in done.stderr and "Traceback" not in done.stderr
    assert "31x24" in done.stdout, "a label of another size than its image"
    assert (tmp_path / "VOC2012/SegmentationClassAug/2007_000032.png").exists()


def test_sbd_labels_come_through_as_they_are():
    label = label_of(20)
    label[0, 0] = 255
    for compressed in (False, True):
        assert (decode_sbd(mat_bytes(label, do_compression=compressed), "x.mat") == label).all()


@pytest.mark.parametrize(
    "data, found",
    [
        (b"", "no readable"),
        (b"junk" * 100, "no readable"),
        (mat_bytes(label_of(3))[:700], "no readable"),
        (mat_bytes(label_of(3).astype(np.float64)), "float64"),
        (mat_bytes(label_of(3)[None].repeat(2, 0)), "shape"),
        (mat_bytes(np.array(["text"])), "whole numbers"),
        (mat_bytes(label_of(3).astype(np.int16) - 1), "-1"),
        (mat_bytes(label_of(21)), "21"),
    ],
)
def test_what_is_no_sbd_label_is_refused(data, found):
    with pytest.raises(InputError, match=found):
        decode_sbd(data, "x.mat")


def test_a_matlab_file_that_unpacks_to_a_huge_array_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr("util.data.sbd.MAX_BYTES", 10_000)
    data = mat_bytes(np.zeros((400, 400), np.uint8), do_compression=True)
    assert len(data) < 10_000
    with pytest.raises(InputError, match="unpacks to more"):
        decode_sbd(data, "x.mat")
