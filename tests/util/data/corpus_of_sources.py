"""One small data set, six images of two classes, as every tool writes it; nothing here uses the readers' code."""

import csv
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

PETS = ["cat", "dog"]
SHAPE = (40, 60)
# Image -> (class, (left, top, right, bottom)); right and bottom are the first pixel outside.
BOXES = {
    "a": [(1, (5, 5, 25, 30))],
    "b": [(2, (10, 4, 40, 20))],
    "c": [(1, (0, 0, 12, 12)), (2, (20, 10, 60, 40))],
    "d": [(2, (7, 7, 30, 33))],
    "e": [(1, (2, 20, 33, 38))],
    "f": [(2, (30, 3, 50, 39)), (1, (3, 3, 20, 20))],
}
NAMES = list(BOXES)
VOC_COLORS = {"background": (0, 0, 0), "cat": (128, 0, 0), "dog": (0, 128, 0)}


def png_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def put(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def image(path: Path, number: int) -> Path:
    """An image that no other number has."""
    pixels = np.random.default_rng(number).integers(0, 256, (*SHAPE, 3), np.uint8)
    return put(path, png_bytes(pixels))


def images(folder: Path, names=NAMES) -> None:
    for name in names:
        image(folder / f"{name}.png", NAMES.index(name))


def classes(name: str) -> list[str]:
    return [PETS[value - 1] for value in sorted({value for value, _ in BOXES[name]})]


def corners(box) -> list[tuple[int, int]]:
    left, top, right, bottom = box
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def label(name: str) -> np.ndarray:
    result = np.zeros(SHAPE, np.uint8)
    for value, (left, top, right, bottom) in BOXES[name]:
        result[top:bottom, left:right] = value
    return result


# --- image-level labels -------------------------------------------------------------------------------------------


def folders(root: Path) -> Path:
    """torchvision, ``ImageFolder`` (docs.pytorch.org/vision/main/generated/torchvision.datasets.ImageFolder.html)."""
    for name in NAMES:
        for shown in classes(name):
            image(root / shown / f"{name}.png", NAMES.index(name))
    return root


def table(root: Path, form: str = "column") -> Path:
    """A CSV: a column of classes, one line per label, one column per class (pandas' ``get_dummies``)."""
    images(root / "images")
    lines = {
        "column": ["image;labels", *(f'{name}.png;"{",".join(classes(name))}"' for name in NAMES)],
        "lines": ["filename,label", *(f"{name}.png,{shown}" for name in NAMES for shown in classes(name))],
        "one-hot": [
            ",id,cat,dog",
            *(f"{k},{n},{int('cat' in classes(n))},{int('dog' in classes(n))}" for k, n in enumerate(NAMES)),
        ],
    }
    put(root / "tags.csv", "\n".join(lines[form]) + "\n")
    return root


def hugging_face(root: Path, form: str = "csv", names=NAMES) -> Path:
    """Hugging Face, "Create an image dataset" (huggingface.co/docs/datasets/image_dataset): ``file_name`` and columns."""
    images(root, names)
    if form == "csv":
        put(root / "metadata.csv", "file_name,labels\n" + "".join(f'{n}.png,"{",".join(classes(n))}"\n' for n in names))
    elif form == "objects":
        rows = [
            {"file_name": f"{n}.png", "objects": {"bbox": [[0, 0, 1, 1]] * len(classes(n)), "categories": classes(n)}}
            for n in names
        ]
        put(root / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    else:
        rows = [{"file_name": f"{n}.png", "labels": classes(n)} for n in names]
        put(root / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return root


def voc_xml(root: Path) -> Path:
    """PASCAL VOC, development kit documentation, "Annotation" (host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc)."""
    images(root / "JPEGImages")
    for name in NAMES:
        put(root / "Annotations" / f"{name}.xml", _voc_annotation(name))
    return root


def _voc_annotation(name: str) -> str:
    objects = "".join(
        f"<object><name>{PETS[value - 1]}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>"
        f"<bndbox><xmin>{b[0] + 1}</xmin><ymin>{b[1] + 1}</ymin><xmax>{b[2]}</xmax><ymax>{b[3]}</ymax></bndbox></object>"
        for value, b in BOXES[name]
    )
    size = f"<size><width>{SHAPE[1]}</width><height>{SHAPE[0]}</height><depth>3</depth></size>"
    return f"<annotation><folder>VOC</folder><filename>{name}.png</filename>{size}<segmented>0</segmented>{objects}</annotation>"


def kaggle(root: Path) -> Path:
    """Kaggle, "Plant Pathology 2021" (kaggle.com/competitions/plant-pathology-2021-fgvc8/data): classes between spaces."""
    images(root / "train_images")
    rows = [f"{name},{' '.join(classes(name))}" for name in NAMES]
    put(root / "train.csv", "\n".join(["image_id,labels", *rows]) + "\n")
    return root


def listed(root: Path, form: str) -> Path:
    """Lists as scripts write them: image -> classes, records, JSON Lines, Apple's Create ML, text with spaces."""
    images(root / "images")
    shown = {f"{name}.png": classes(name) for name in NAMES}
    place = {"x": 10, "y": 10, "width": 5, "height": 5}
    records = {
        "list": [{"image": name, "width": SHAPE[1], "tags": names} for name, names in shown.items()],
        "flags": [{"file": name, **{pet: pet in names for pet in PETS}} for name, names in shown.items()],
        "createml": [
            {"image": name, "annotations": [{"label": pet, "coordinates": place} for pet in names]}
            for name, names in shown.items()
        ],
    }
    if form == "text":
        put(root / "labels.txt", "# pets\n" + "".join(f"{name} {' '.join(names)}\n" for name, names in shown.items()))
    elif form == "lines":
        put(root / "labels.jsonl", "".join(json.dumps(record) + "\n" for record in records["list"]))
    else:
        put(root / "labels.json", json.dumps(records.get(form, shown)))
    return root


def via(root: Path, form: str) -> Path:
    """VGG Image Annotator 2.0.12, "Save Project", "Export Annotations (as csv)" (robots.ox.ac.uk/~vgg/software/via), and
    version 1, whose regions are numbered."""
    images(root / "images")
    entries, rows = {}, []
    for name in NAMES:
        regions = []
        for value, box in BOXES[name]:
            (left, top, right, bottom), pet = box, PETS[value - 1]
            shape = {"name": "rect", "x": left, "y": top, "width": right - left, "height": bottom - top}
            if form == "polygon":
                x, y = (list(values) for values in zip(*corners(box)))
                shape = {"name": "polygon", "all_points_x": x, "all_points_y": y}
            kind = {"type": {pet: True}} if form == "checkbox" else {"type": pet, "remark": ""}
            regions.append({"shape_attributes": shape, "region_attributes": kind})
        own = {"caption": "a pet", "public_domain": "no", "image_url": ""}
        numbered = dict(enumerate(regions)) if form == "version 1" else regions
        entries[f"{name}.png99"] = {"filename": f"{name}.png", "size": 99, "regions": numbered, "file_attributes": own}
        for number, region in enumerate(regions):
            parts = (region["shape_attributes"], region["region_attributes"])
            rows.append([f"{name}.png", 99, json.dumps(own), len(regions), number, *map(json.dumps, parts)])
    if form == "csv":
        text = io.StringIO()
        head = ["filename", "file_size", "file_attributes", "region_count", "region_id"]
        csv.writer(text).writerows([[*head, "region_shape_attributes", "region_attributes"], *rows])
        put(root / "via_project_csv.csv", text.getvalue())
    elif form == "version 1":
        put(root / "via_region_data.json", json.dumps(entries))
    else:
        put(
            root / "via_project.json",
            json.dumps({"_via_settings": {}, "_via_img_metadata": entries, "_via_attributes": {}}),
        )
    return root


def hugging_face_numbers(root: Path) -> Path:
    """Hugging Face, "Repository cards" (huggingface.co/docs/datasets/dataset_card): numbers, named in README.md's head."""
    images(root)
    rows = [{"file_name": f"{n}.png", "labels": [PETS.index(shown) for shown in classes(n)]} for n in NAMES]
    put(root / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    head = "dataset_info:\n  features:\n  - name: labels\n    sequence:\n      class_label:\n        names:\n"
    put(root / "README.md", f"---\n{head}          '0': cat\n          '1': dog\n---\n# Pets\n")
    return root


def label_studio_min(root: Path, form: str) -> Path:
    """Label Studio, "Export formats", JSON_MIN and CSV (labelstud.io/guide/export): controls by name, and records."""
    images(root / "images")
    head = ["image", "id", "choice", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"]
    entries = []
    for number, name in enumerate(NAMES):
        shown = classes(name)
        choice = shown[0] if len(shown) == 1 else {"choices": shown}
        records = [1, number, "2024-05-01T10:00:00.000000Z", "2024-05-01T10:00:01.000000Z", 1.5]
        entries.append(dict(zip(head, [f"/data/upload/1/0f3c{number:04x}-{name}.png", number, choice, *records])))
    if form == "json":
        put(root / "export.json", json.dumps(entries))
        return root
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(head)
    writer.writerows([json.dumps(v) if isinstance(v, dict) else v for v in entry.values()] for entry in entries)
    put(root / "export.csv", text.getvalue())
    return root


def label_studio(root: Path, form: str = "choices") -> Path:
    """Label Studio, "Export annotations", "Label Studio JSON format" (labelstud.io/guide/export), and the tags' pages
    (labelstud.io/tags/choices, rectanglelabels, polygonlabels, brushlabels)."""
    height, width = SHAPE
    tasks = []
    for number, name in enumerate(NAMES):
        common = {
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "to_name": "image",
            "from_name": "x",
        }
        results = []
        if form == "choices":
            results = [{"type": "choices", "value": {"choices": classes(name)}, "to_name": "image", "from_name": "x"}]
        for value, box in BOXES[name] if form != "choices" else []:
            shown = [PETS[value - 1]]
            if form == "polygonlabels":
                points = [[100 * x / width, 100 * y / height] for x, y in corners(box)]
                results.append({**common, "type": form, "value": {"points": points, form: shown, "closed": True}})
            else:
                place = {"x": 100 * box[0] / width, "y": 100 * box[1] / height, "width": 1, "height": 1, "rotation": 0}
                results.append({**common, "type": form, "value": {**place, form: shown}})
        annotations = [
            {"id": 1, "was_cancelled": True, "result": []},
            {"id": 2, "was_cancelled": False, "result": results},
        ]
        upload = f"/data/upload/1/0f3c{number:04x}-{name}.png"
        tasks.append({"id": number, "data": {"image": upload}, "annotations": annotations[::1], "predictions": []})
    images(root / "images")
    put(root / "project-1-at-2024-01-01.json", json.dumps(tasks))
    return root


# --- boxes and pixels ---------------------------------------------------------------------------------------------


def coco(root: Path, polygons: bool, rle: bool = False, names=NAMES, file="annotations.json", roboflow=False) -> Path:
    """COCO, "Data format" (cocodataset.org/#format-data)."""
    images(root, names)
    annotations = []
    for number, name in enumerate(names, 1):
        for value, box in BOXES[name]:
            left, top, right, bottom = box
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": value, "iscrowd": 0}
            entry |= {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
            entry["segmentation"] = []
            if polygons:
                entry["segmentation"] = [[v for point in corners(box) for v in point]]
            if rle:
                mask = np.zeros(SHAPE, bool)
                mask[top:bottom, left:right] = True
                flat = mask.ravel(order="F")
                ends = [*np.flatnonzero(np.diff(flat)) + 1, flat.size]
                counts = np.diff([0, *ends]).tolist()
                entry["segmentation"] = {"size": list(SHAPE), "counts": [0, *counts] if flat[0] else counts}
            annotations.append(entry)
    categories = [
        {"id": k, "name": name, "supercategory": "pets" if roboflow else "animal"} for k, name in enumerate(PETS, 1)
    ]
    if roboflow:
        categories.insert(0, {"id": 0, "name": "pets", "supercategory": "none"})
    entries = [
        {"id": k, "file_name": f"{n}.png", "width": SHAPE[1], "height": SHAPE[0]} for k, n in enumerate(names, 1)
    ]
    put(root / file, json.dumps({"info": {}, "images": entries, "annotations": annotations, "categories": categories}))
    return root


def cvat(root: Path, form: str = "polygon") -> Path:
    """CVAT, "CVAT for image" (docs.cvat.ai/docs/manual/advanced/xml_format)."""
    images(root / "images")
    labels = "".join(
        f"<label><name>{n}</name><color>#{r:02x}{g:02x}{b:02x}</color><attributes/></label>"
        for n, (r, g, b) in VOC_COLORS.items()
        if n != "background"
    )
    parts = []
    for number, name in enumerate(NAMES):
        shapes = (
            "".join(f'<tag label="{shown}" source="manual"></tag>' for shown in classes(name)) if form == "tag" else ""
        )
        for value, box in BOXES[name] if form != "tag" else []:
            left, top, right, bottom = box
            head = f'label="{PETS[value - 1]}" source="manual" occluded="0" z_order="0"'
            if form == "polygon":
                points = ";".join(f"{x:.2f},{y:.2f}" for x, y in corners(box))
                shapes += f'<polygon {head} points="{points}"></polygon>'
            elif form == "mask":
                size = f'left="{left}" top="{top}" width="{right - left}" height="{bottom - top}"'
                shapes += f'<mask {head} rle="0, {(right - left) * (bottom - top)}" {size}></mask>'
            else:
                shapes += f'<box {head} xtl="{left}.00" ytl="{top}.00" xbr="{right}.00" ybr="{bottom}.00"></box>'
        parts.append(f'<image id="{number}" name="{name}.png" width="{SHAPE[1]}" height="{SHAPE[0]}">{shapes}</image>')
    meta = f"<meta><task><id>1</id><labels>{labels}</labels></task></meta>"
    put(
        root / "annotations.xml",
        f'<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>{meta}'
        f"{''.join(parts)}</annotations>",
    )
    return root


def cvat_masks(root: Path) -> Path:
    """CVAT, "Segmentation mask" (docs.cvat.ai/docs/manual/advanced/formats/format-smask): colours and ``labelmap.txt``."""
    images(root / "JPEGImages")
    lines = [f"{name}:{r},{g},{b}::" for name, (r, g, b) in VOC_COLORS.items()]
    put(root / "labelmap.txt", "\n".join(["# label:color_rgb:parts:actions", *lines]) + "\n")
    colors = np.array(list(VOC_COLORS.values()), np.uint8)
    for name in NAMES:
        put(root / "SegmentationClass" / f"{name}.png", png_bytes(colors[label(name)]))
    return root


def voc_maps(root: Path) -> Path:
    """PASCAL VOC's label maps by index, with this project's ``class_names.txt``."""
    images(root / "JPEGImages")
    put(root / "class_names.txt", "background\ncat\ndog\n")
    for name in NAMES:
        put(root / "SegmentationClass" / f"{name}.png", png_bytes(label(name)))
        put(root / "Annotations" / f"{name}.xml", _voc_annotation(name))
    return root


def labelme(root: Path, flags: bool = False) -> Path:
    """labelme, README and ``examples/semantic_segmentation`` (github.com/wkentaro/labelme); polygons include their border."""
    images(root)
    for name in NAMES:
        shapes = [
            {
                "label": PETS[value - 1],
                "points": corners((b[0], b[1], b[2] - 1, b[3] - 1)),
                "group_id": None,
                "shape_type": "polygon",
                "flags": {},
            }
            for value, b in BOXES[name]
        ]
        content = {
            "version": "5.5.0",
            "flags": {},
            "shapes": [] if flags else shapes,
            "imagePath": f"{name}.png",
            "imageData": None,
            "imageHeight": SHAPE[0],
            "imageWidth": SHAPE[1],
        }
        if flags:
            content["flags"] = {pet: pet in classes(name) for pet in PETS}
        put(root / f"{name}.json", json.dumps(content))
    return root


def roboflow(root: Path, form: str) -> Path:
    """Roboflow, "Export a dataset version" (docs.roboflow.com/datasets/dataset-versions/exporting-data): per split a folder."""
    for part, names in {"train": NAMES[:4], "valid": NAMES[4:]}.items():
        if form == "coco":
            coco(root / part, polygons=True, names=names, file="_annotations.coco.json", roboflow=True)
        elif form == "csv":
            images(root / part, names)
            rows = [f"{n}.png, {int('cat' in classes(n))}, {int('dog' in classes(n))}" for n in names]
            put(root / part / "_classes.csv", "\n".join(["filename, cat, dog", *rows]) + "\n")
        else:
            images(root / part, names)
            for name in names:
                put(root / part / f"{name}.xml", _voc_annotation(name))
    put(root / "README.dataset.txt", "pets\n")
    return root


def yolo_line(value: int, box, polygons: bool) -> str:
    height, width = SHAPE
    left, top, right, bottom = box
    if polygons:  # the fifth point is on the upper edge
        points = [(left, top), ((left + right) / 2, top), *corners(box)[1:]]
        numbers = [number for x, y in points for number in (x / width, y / height)]
    else:
        sides = (right - left) / width, (bottom - top) / height
        numbers = [(left + right) / 2 / width, (top + bottom) / 2 / height, *sides]
    return " ".join([str(value - 1), *(f"{number:.6f}" for number in numbers)])


def yolo(
    root: Path, polygons: bool = False, form: str = "ultralytics", parts: dict[str, list[str]] | None = None
) -> Path:
    """Ultralytics, "Detect" and "Segment" (docs.ultralytics.com/datasets/detect, /segment); CVAT, "YOLO 1.1"
    (docs.cvat.ai/docs/manual/advanced/formats/format-yolo); Roboflow, "YOLOv8 PyTorch TXT"."""
    for part, names in (parts or {"": NAMES}).items():
        place = {
            "ultralytics": (root / "images" / part, root / "labels" / part),
            "roboflow": (root / part / "images", root / part / "labels"),
            "cvat": (root / "obj_train_data", root / "obj_train_data"),
        }[form]
        images(place[0], names)
        for name in names:
            put(place[1] / f"{name}.txt", "".join(yolo_line(*mark, polygons) + "\n" for mark in BOXES[name]))
    if form == "cvat":
        put(root / "obj.names", "cat\ndog\n")
        put(root / "train.txt", "".join(f"data/obj_train_data/{name}.png\n" for name in NAMES))
    elif form == "roboflow":
        put(root / "data.yaml", "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['cat', 'dog']\n")
        put(root / "README.roboflow.txt", "pets\n")
    else:
        put(root / "data.yaml", "path: pets\ntrain: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n")
    return root


def roboflow_masks(root: Path) -> Path:
    """Roboflow, "Semantic Segmentation Masks" (roboflow.com/formats/semantic-segmentation-masks)."""
    for part, names in {"train": NAMES[:4], "valid": NAMES[4:]}.items():
        images(root / part, names)
        put(root / part / "_classes.csv", "Pixel Value, Class\n0, background\n1, cat\n2, dog\n")
        for name in names:
            put(root / part / f"{name}_mask.png", png_bytes(label(name)))
    return root


def _split(make):
    """The same in folders ``train`` and ``val``."""

    def split(root: Path) -> Path:
        for part, names in {"train": NAMES[:4], "val": NAMES[4:]}.items():
            make(root / part, names)
        return root

    return split


def _folders_of(root: Path, names) -> None:
    for name in names:
        for shown in classes(name):
            image(root / shown / f"{name}.png", NAMES.index(name))


def _marked(root: Path) -> Path:
    put(root / "README.roboflow.txt", "pets\n")
    return root


def voc_lists(root: Path) -> Path:
    voc_xml(root)
    put(root / "ImageSets/Main/train.txt", "\n".join(NAMES[:4]) + "\n")
    put(root / "ImageSets/Main/val.txt", "\n".join(NAMES[4:]) + "\n")
    return root


def coco_files(root: Path) -> Path:
    """COCO's own file names: ``annotations/instances_train2017.json``."""
    for part, names in {"train": NAMES[:4], "val": NAMES[4:]}.items():
        coco(root, polygons=True, names=names, file=f"annotations/instances_{part}2017.json")
    return root


# The first word is the format that is found out.
TAGGED = {
    "folders": folders,
    "csv column": table,
    "csv lines": lambda root: table(root, "lines"),
    "csv one-hot": lambda root: table(root, "one-hot"),
    "csv kaggle": kaggle,
    "csv json": lambda root: listed(root, "dictionary"),
    "csv records": lambda root: listed(root, "list"),
    "csv json-flags": lambda root: listed(root, "flags"),
    "csv json-lines": lambda root: listed(root, "lines"),
    "csv createml": lambda root: listed(root, "createml"),
    "csv text": lambda root: listed(root, "text"),
    "huggingface csv": hugging_face,
    "huggingface numbers": hugging_face_numbers,
    "huggingface jsonl": lambda root: hugging_face(root, "jsonl"),
    "huggingface objects": lambda root: hugging_face(root, "objects"),
    "voc xml": voc_xml,
    "coco boxes": lambda root: coco(root, polygons=False),
    "label-studio choices": label_studio,
    "label-studio boxes": lambda root: label_studio(root, "rectanglelabels"),
    "label-studio min": lambda root: label_studio_min(root, "json"),
    "label-studio csv": lambda root: label_studio_min(root, "csv"),
    "yolo boxes": yolo,
    "yolo cvat": lambda root: yolo(root, form="cvat"),
    "cvat tags": lambda root: cvat(root, "tag"),
    "via boxes": lambda root: via(root, "checkbox"),
    "via csv": lambda root: via(root, "csv"),
    "via version-1": lambda root: via(root, "version 1"),
    "cvat boxes": lambda root: cvat(root, "box"),
    "labelme flags": lambda root: labelme(root, flags=True),
}
OUTLINED = {
    "coco polygons": lambda root: coco(root, polygons=True),
    "coco codes": lambda root: coco(root, polygons=False, rle=True),
    "cvat polygons": cvat,
    "cvat masks": lambda root: cvat(root, "mask"),
    "voc colours": cvat_masks,
    "voc indices": voc_maps,
    "labelme polygons": labelme,
    "via polygons": lambda root: via(root, "polygon"),
    "yolo polygons": lambda root: yolo(root, polygons=True),
    "label-studio polygons": lambda root: label_studio(root, "polygonlabels"),
}
SPLIT = {
    "roboflow coco": lambda root: roboflow(root, "coco"),
    "roboflow csv": lambda root: roboflow(root, "csv"),
    "roboflow xml": lambda root: roboflow(root, "xml"),
    "roboflow yolo": lambda root: yolo(root, form="roboflow", parts={"train": NAMES[:4], "valid": NAMES[4:]}),
    "roboflow masks": roboflow_masks,
    "roboflow folders": lambda root: _marked(_split(_folders_of)(root)),
    "yolo": lambda root: yolo(root, parts={"train": NAMES[:4], "val": NAMES[4:]}),
    "folders": _split(_folders_of),
    "huggingface": _split(lambda root, names: hugging_face(root, "csv", names)),
    "voc": voc_lists,
    "coco": coco_files,
}
