"""One small data set with drawn masks, written in every layout that the project reads."""

import base64
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from pycocotools import mask as coco_mask

from datamodules.formats.rle import encode_rle


@dataclass
class Drawn:
    """One image with its label map: 0 is background, k is class k."""

    name: str
    split: str
    image: np.ndarray
    labels: np.ndarray


def draw(
    count: int = 24, classes: int = 2, size: tuple[int, int] = (48, 40), seed: int = 0
) -> list[Drawn]:
    """Draw images of noise with one ellipse per class, side by side; some have none."""
    rng = np.random.default_rng(seed)
    height, width = size
    made = []
    for n in range(count):
        labels = np.zeros(size, np.uint8)
        for k in range(1, classes + 1):
            if n % 12 == 5 or (n + 3 * k) % 5 == 0:
                continue
            left, right = (k - 1) * width // classes, k * width // classes
            y, x = rng.uniform(0.3, 0.7) * height, rng.uniform(left + 4, right - 4)
            a, b = rng.uniform(2.5, height * 0.25), rng.uniform(1.5, min(x - left, right - x))
            rows, columns = np.mgrid[:height, :width] + 0.5
            inside = ((rows - y) / a) ** 2 + ((columns - x) / b) ** 2 <= 1
            labels[inside & (columns >= left) & (columns < right)] = k
        noise = rng.integers(0, 120, size)
        image = (noise + 100 * (labels > 0)).astype(np.uint8)
        split = ("train", "val", "test")[0 if n % 6 < 4 else n % 6 - 3]
        made.append(Drawn(f"case{n:02d}", split, image, labels))
    return made


def outline(mask: np.ndarray) -> list[float]:
    """Return the outline of a mask along its pixels' edges; each row of it is one run."""
    rows = np.flatnonzero(mask.any(1))
    right, left = [], []
    for row in rows.tolist():
        columns = np.flatnonzero(mask[row])
        right += [(columns[-1] + 1, row), (columns[-1] + 1, row + 1)]
        left += [(columns[0], row), (columns[0], row + 1)]
    return [float(value) for point in right + left[::-1] for value in point]


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def parts(item: Drawn, names: list[str]) -> list[tuple[str, np.ndarray]]:
    """Return name and mask of each class that an image shows."""
    found = [(name, item.labels == k) for k, name in enumerate(names, start=1)]
    return [(name, mask) for name, mask in found if mask.any()]


def image_mask_folders(root: Path, items: list[Drawn], names: list[str]) -> None:
    for item in items:
        save(root / "images" / f"{item.name}.png", item.image)
        save(root / "masks" / f"{item.name}.png", item.labels)


def masks_of_255_with_suffix(root: Path, items: list[Drawn], names: list[str]) -> None:
    for item in items:
        save(root / "imgs" / f"{item.name}.png", item.image)
        save(root / "Labels" / f"{item.name}_seg.png", (item.labels > 0) * np.uint8(255))


def splits_above(root: Path, items: list[Drawn], names: list[str]) -> None:
    folder = {"train": "train", "val": "valid", "test": "test"}
    for item in items:
        save(root / folder[item.split] / "images" / f"{item.name}.png", item.image)
        save(root / folder[item.split] / "masks" / f"{item.name}_mask.png", item.labels)


def splits_below(root: Path, items: list[Drawn], names: list[str]) -> None:
    for item in items:
        save(root / "images" / item.split / f"{item.name}.tif", item.image)
        save(root / "ground_truth" / item.split / f"{item.name}.png", item.labels)


def splits_in_names(root: Path, items: list[Drawn], names: list[str]) -> None:
    for item in items:
        save(root / f"{item.split}_images" / f"{item.name}.png", item.image)
        save(root / f"{item.split}_masks" / f"{item.name}.png", item.labels)


def several_masks(root: Path, items: list[Drawn], names: list[str]) -> None:
    for item in items:
        save(root / "images" / f"{item.name}.png", item.image)
        for k in range(len(names)):
            save(
                root / "masks" / f"{item.name}_mask_{k + 1}.png",
                (item.labels == k + 1) * np.uint8(255),
            )


def pairs(root: Path, items: list[Drawn], names: list[str]) -> None:
    for n, item in enumerate(items):
        name = f"benign ({n + 1})"
        save(root / f"{name}.png", item.image)
        save(root / f"{name}_mask.png", (item.labels == 1) * np.uint8(255))
        if (item.labels == 2).any():
            save(root / f"{name}_mask_1.png", (item.labels == 2) * np.uint8(255))
        item.name = name


def pairs_at(root: Path, items: list[Drawn], names: list[str]) -> None:
    for item in items:
        save(root / f"{item.name}.png", item.image)
        save(root / f"{item.name}@.png", item.labels)


def palette_masks(root: Path, items: list[Drawn], names: list[str]) -> None:
    for item in items:
        save(root / "images" / f"{item.name}.png", item.image)
        picture = Image.fromarray(item.labels).convert("P")
        picture.putdata(item.labels.ravel().tolist())
        picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
        (root / "masks").mkdir(exist_ok=True)
        picture.save(root / "masks" / f"{item.name}.png")


def numpy_masks(root: Path, items: list[Drawn], names: list[str]) -> None:
    (root / "masks").mkdir(parents=True)
    for item in items:
        save(root / "images" / f"{item.name}.png", item.image)
        np.save(root / "masks" / f"{item.name}.npy", item.labels.astype(np.int64))


def nnunet(root: Path, items: list[Drawn], names: list[str]) -> None:
    for item in items:
        end = "Ts" if item.split == "test" else "Tr"
        save(root / f"images{end}" / f"{item.name}_0000.png", item.image)
        save(root / f"labels{end}" / f"{item.name}.png", item.labels)
    labels = {"background": 0} | {name: k for k, name in enumerate(names, start=1)}
    content = {"channel_names": {"0": "gray"}, "labels": labels, "file_ending": ".png"}
    (root / "dataset.json").write_text(json.dumps(content))


def stack(
    items: list[Drawn], suffix: str, name: str = "vol{:02d}"
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Stack two drawn images at a time into a volume; they are then named as its slices.

    Returns:
        File name, image and labels, each `Z x Y x X`.
    """
    made = []
    for n in range(0, len(items), 2):
        pair, file = items[n : n + 2], name.format(n // 2)
        images, labels = np.stack([i.image for i in pair]), np.stack([i.labels for i in pair])
        for number, item in enumerate(pair):
            item.name = f"{file}#{number:03d}"
        made.append((f"{file}{suffix}", images, labels))
    return made


def save_volume(path: Path, values: np.ndarray, spacing=(0.7, 0.8, 3.0)) -> None:
    """Write `Z x Y x X` with an oblique direction that is no identity."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing(spacing)
    image.SetOrigin((-12.5, 30.25, 7.0))
    image.SetDirection((0.0, -1.0, 0.0, 0.6, 0.0, 0.8, -0.8, 0.0, 0.6))
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path))


def volume_folders(suffix: str) -> Callable[..., None]:
    def write(root: Path, items: list[Drawn], names: list[str]) -> None:
        for name, image, labels in stack(items, suffix):
            save_volume(root / "images" / name, image)
            save_volume(root / "masks" / name, labels)

    return write


def two_channels(root: Path, items: list[Drawn], names: list[str]) -> None:
    """Write nnU-Net cases of two channels of 16 bits; the second one is the first, inverted."""
    for item in items:
        for channel, image in enumerate((item.image, 255 - item.image)):
            values = image.astype(np.uint16) * (100, 3)[channel]
            save(root / "imagesTr" / f"{item.name}_000{channel}.png", values)
        save(root / "labelsTr" / f"{item.name}.png", item.labels)
    labels = {"background": 0} | {name: k for k, name in enumerate(names, start=1)}
    content = {"channel_names": {"0": "T1", "1": "T2"}, "labels": labels, "file_ending": ".png"}
    (root / "dataset.json").write_text(json.dumps(content))


def five_pages(root: Path, items: list[Drawn], names: list[str]) -> None:
    """Write TIFF stacks of five pages; page k is the image less 20 k."""
    for item in items:
        pages = [np.maximum(item.image, 20 * k) - np.uint8(20 * k) for k in range(5)]
        (root / "images").mkdir(exist_ok=True)
        first, *more = map(Image.fromarray, pages)
        first.save(root / "images" / f"{item.name}.tif", save_all=True, append_images=more)
        save(root / "masks" / f"{item.name}.png", item.labels)


def volume_pairs(root: Path, items: list[Drawn], names: list[str]) -> None:
    for name, image, labels in stack(items, ".nii.gz"):
        save_volume(root / name, image)
        save_volume(root / name.replace(".nii", "_seg.nii"), labels)


def nnunet_volumes(root: Path, items: list[Drawn], names: list[str]) -> None:
    for name, image, labels in stack(items, ".nii.gz"):
        save_volume(root / "imagesTr" / name.replace(".nii", "_0000.nii"), image)
        save_volume(root / "labelsTr" / name, labels)
    for item in items:
        item.name = item.name.replace("#", "_0000#")
    values = {"background": 0} | {name: k for k, name in enumerate(names, start=1)}
    content = {"channel_names": {"0": "CT"}, "labels": values, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(content))


def dicom_segmentations(root: Path, items: list[Drawn], names: list[str]) -> None:
    """Write studies of two slices each, with binary and fractional SEGs that name them.

    The SEGs list the slices in reverse; every third study has one SEG per class.
    """
    from highdicom import seg
    from pydicom.sr.codedict import codes

    lesion = codes.SCT.Neoplasm
    for study in range(len(items) // 2):
        pair = items[2 * study : 2 * study + 2]
        sources = [dicom_slice(item, study, number) for number, item in enumerate(pair)]
        for item, source in zip(pair, sources, strict=True):
            path = root / f"p{study}" / "ct" / f"{item.name}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            source.save_as(path, enforce_file_format=True)
        per_class = [[k] for k in range(len(names))] if study % 3 == 0 else [[0, 1]]
        kind = ("BINARY", "FRACTIONAL")[study % 2]
        for number, classes in enumerate(per_class):
            planes = np.stack([[item.labels == k + 1 for k in classes] for item in pair[::-1]])
            values = planes.transpose(0, 2, 3, 1)
            if kind == "FRACTIONAL":  # from .5 on a pixel belongs to its segment
                values = np.where(values, 0.6, 0.4).astype(np.float32)
            made = seg.Segmentation(
                source_images=sources[::-1],
                pixel_array=values if kind == "FRACTIONAL" else values.astype(np.uint8),
                segmentation_type=kind,
                segment_descriptions=[
                    seg.SegmentDescription(
                        segment_number=n,
                        segment_label=names[k],
                        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
                        segmented_property_type=lesion,
                        algorithm_type="MANUAL",
                    )
                    for n, k in enumerate(classes, start=1)
                ],
                series_instance_uid=f"1.2.826.0.1.{study + 1}.9.{number}",
                series_number=9,
                sop_instance_uid=f"1.2.826.0.1.{study + 1}.9.{number}.1",
                instance_number=1,
                manufacturer="phantom",
                manufacturer_model_name="phantom",
                software_versions="1",
                device_serial_number="1",
                omit_empty_frames=study % 2 == 0 and bool(planes.any()),
            )
            place = root / f"p{study}" / "seg"
            place.mkdir(exist_ok=True)
            made.save_as(place / f"{number}.dcm", enforce_file_format=True)


def dicom_slice(item: Drawn, study: int, number: int) -> Any:
    """Return a slice of a CT series as a pydicom data set of 8 bits."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.Modality = CTImageStorage, "CT"
    made.file_meta.MediaStorageSOPClassUID = CTImageStorage
    made.StudyInstanceUID = f"1.2.826.0.1.{study + 1}"
    made.SeriesInstanceUID = f"{made.StudyInstanceUID}.1"
    made.SOPInstanceUID = f"{made.SeriesInstanceUID}.{number + 1}"
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.FrameOfReferenceUID = f"{made.StudyInstanceUID}.2"
    made.PatientID, made.PatientName = f"Doe{study}", "Doe^Jane"
    made.PatientBirthDate = made.StudyDate = made.StudyTime = made.AccessionNumber = ""
    made.PatientSex, made.StudyID, made.ReferringPhysicianName = "", "", ""
    made.InstanceNumber, made.SeriesNumber = number + 1, 1
    made.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    made.ImagePositionPatient = [0, 0, 3 * number]
    made.PixelSpacing, made.SliceThickness = [0.8, 0.7], 3
    made.Rows, made.Columns = item.image.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    made.PixelData = item.image.tobytes() + b"\0" * (item.image.size % 2)
    made["PixelData"].VR = "OB"
    return made


def coco(items: list[Drawn], names: list[str], rle: bool, path: Callable[[Drawn], str]) -> dict:
    annotations: list[dict[str, Any]] = []
    images = []
    for n, item in enumerate(items):
        height, width = item.labels.shape
        images.append({"id": n, "file_name": path(item), "height": height, "width": width})
        for name, mask in parts(item, names):
            counts = encode_rle(mask[..., None])[0]
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": n,
                    "category_id": 10 * (names.index(name) + 1),
                    "segmentation": counts if rle else [outline(mask)],
                    "bbox": list(map(float, coco_mask.toBbox(counts))),
                    "area": int(mask.sum()),
                    "iscrowd": int(rle),
                }
            )
    categories = [{"id": 10 * (k + 1), "name": name} for k, name in enumerate(names)]
    return {"images": images, "annotations": annotations, "categories": categories}


def coco_roboflow(root: Path, items: list[Drawn], names: list[str]) -> None:
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        some = [item for item in items if item.split == split]
        for item in some:
            save(root / folder / f"{item.name}.png", item.image)
        content = coco(some, names, False, lambda item: f"{item.name}.png")
        (root / folder / "_annotations.coco.json").write_text(json.dumps(content))


def coco_cvat(root: Path, items: list[Drawn], names: list[str]) -> None:
    for item in items:
        save(root / "images" / f"{item.name}.png", item.image)
    (root / "annotations").mkdir()
    content = coco(items, names, False, lambda item: f"{item.name}.png")
    (root / "annotations" / "instances_default.json").write_text(json.dumps(content))


def coco_pycocotools(root: Path, items: list[Drawn], names: list[str]) -> None:
    (root / "annotations").mkdir(parents=True)
    for split in ("train", "val", "test"):
        some = [item for item in items if item.split == split]
        for item in some:
            save(root / f"{split}2017" / f"{item.name}.png", item.image)
        content = coco(some, names, True, lambda item: f"{item.name}.png")
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))


def coco_label_studio(root: Path, items: list[Drawn], names: list[str]) -> None:
    for item in items:
        save(root / "images" / f"{item.name}.png", item.image)
    content = coco(items, names, False, lambda item: f"images\\{item.name}.png")
    (root / "result.json").write_text("\ufeff" + json.dumps(content), encoding="utf-8")


def voc(root: Path, items: list[Drawn], names: list[str]) -> None:
    colors = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    for item in items:
        save(root / "JPEGImages" / f"{item.name}.png", item.image)
        picture = Image.fromarray(item.labels).convert("P")
        picture.putdata(item.labels.ravel().tolist())
        picture.putpalette([value for color in colors for value in color])
        (root / "SegmentationClass").mkdir(exist_ok=True)
        picture.save(root / "SegmentationClass" / f"{item.name}.png")
    for split in ("train", "val", "test"):
        listed = "\n".join(item.name for item in items if item.split == split)
        (root / f"ImageSets/Segmentation/{split}.txt").write_text(listed + "\n")
    lines = ["# label:color_rgb:parts:actions", "background:0,0,0::"]
    lines += [f"{name}:{','.join(map(str, colors[k]))}::" for k, name in enumerate(names, start=1)]
    (root / "labelmap.txt").write_text("\n".join(lines))


def yolo(root: Path, items: list[Drawn], names: list[str]) -> None:
    for item in items:
        save(root / "images" / item.split / f"{item.name}.png", item.image)
        height, width = item.labels.shape
        lines = []
        for name, mask in parts(item, names):
            points = np.array(outline(mask)).reshape(-1, 2) / [width, height]
            numbers = " ".join(f"{value:.6f}" for value in points.ravel())
            lines.append(f"{names.index(name)} {numbers}")
        folder = root / "labels" / item.split
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{item.name}.txt").write_text("\n".join(lines))
    listed = ", ".join(names)
    (root / "data.yaml").write_text(f"path: .\ntrain: images/train\nnames: [{listed}]\n")


def labelme(root: Path, items: list[Drawn], names: list[str]) -> None:
    for n, item in enumerate(items):
        save(root / f"{item.name}.png", item.image)
        shapes: list[dict[str, Any]] = []
        for name, mask in parts(item, names):
            if n % 2:
                points = np.array(outline(mask)).reshape(-1, 2).tolist()
                shapes.append({"label": name, "points": points, "shape_type": "polygon"})
                continue
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            data = io.BytesIO()
            Image.fromarray(box).save(data, "PNG")
            shapes.append(
                {
                    "label": name,
                    "points": [
                        [int(columns[0]), int(rows[0])],
                        [int(columns[-1]), int(rows[-1])],
                    ],
                    "shape_type": "mask",
                    "mask": base64.b64encode(data.getvalue()).decode(),
                }
            )
        height, width = item.labels.shape
        content = {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": f"{item.name}.png",
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        (root / f"{item.name}.json").write_text(json.dumps(content))


def cvat(root: Path, items: list[Drawn], names: list[str]) -> None:
    labels = "".join(f"<label><name>{name}</name></label>" for name in names)
    lines = [
        f"<annotations><version>1.1</version><meta><job><labels>{labels}</labels></job></meta>"
    ]
    for n, item in enumerate(items):
        save(root / "images" / f"{item.name}.png", item.image)
        height, width = item.labels.shape
        lines.append(f'<image id="{n}" name="{item.name}.png" width="{width}" height="{height}">')
        shown = parts(item, names)
        for name, mask in shown:
            if n % 2:
                points = np.array(outline(mask)).reshape(-1, 2)
                text = ";".join(f"{x:.2f},{y:.2f}" for x, y in points)
                lines.append(f'<polygon label="{name}" points="{text}"></polygon>')
                continue
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].ravel()
            edges = np.flatnonzero(np.diff(np.concatenate([[0], box.astype(int), [2]])))
            runs = np.diff(np.concatenate([[0], edges]))
            lines.append(
                f'<mask label="{name}" rle="{", ".join(map(str, runs))}" left="{columns[0]}"'
                f' top="{rows[0]}" width="{columns[-1] - columns[0] + 1}"'
                f' height="{rows[-1] - rows[0] + 1}"></mask>'
            )
        if not shown:
            lines.append('<tag label="nothing"></tag>')
        lines.append("</image>")
    root.mkdir(exist_ok=True)
    (root / "annotations.xml").write_text("\n".join([*lines, "</annotations>"]))


def encode_brush(mask: np.ndarray) -> list[int]:
    """Pack a mask as Label Studio's brush does: one literal or run per RGBA byte."""
    values = np.repeat(mask.ravel().astype(np.uint8) * 255, 4)
    bits: list[int] = []

    def put(value: int, count: int) -> None:
        bits.extend(int(bit) for bit in f"{value:0{count}b}")

    put(len(values), 32)
    put(7, 5)  # 8 bits a word
    for size in (3, 4, 8, 16):
        put(size - 1, 4)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(values)) + 1, [len(values)]])
    for start, end in pairwise(starts):
        put(1, 1)
        put(3, 2)
        put(int(end - start) - 1, 16)
        put(int(values[start]), 8)
    bits += [0] * (-len(bits) % 8)
    return np.packbits(bits).tolist()


def label_studio(root: Path, items: list[Drawn], names: list[str]) -> None:
    tasks = []
    for n, item in enumerate(items):
        save(root / "images" / f"{item.name}.png", item.image)
        height, width = item.labels.shape
        results = []
        for number, (name, mask) in enumerate(parts(item, names)):
            result: dict[str, Any] = {
                "id": f"r{number}",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
            }
            if n % 2:
                points = np.array(outline(mask)).reshape(-1, 2) * [100 / width, 100 / height]
                value = {"points": points.tolist(), "closed": True, "polygonlabels": [name]}
                results.append(result | {"type": "polygonlabels", "value": value})
            else:
                value = {"format": "rle", "rle": encode_brush(mask), "brushlabels": [name]}
                results.append(result | {"type": "brushlabels", "value": value})
        tasks.append(
            {
                "id": n,
                "data": {"image": f"/data/upload/1/0a1b2c3d-{item.name}.png"},
                "annotations": [{"id": n, "was_cancelled": False, "result": results}],
            }
        )
    (root / "export.json").write_text(json.dumps(tasks))


def mask_table(root: Path, items: list[Drawn], names: list[str]) -> None:
    rows = []
    for item in items:
        save(root / "pixels" / f"{item.name}.png", item.image)
        save(root / "truths" / f"{item.name}.png", item.labels)
        rows.append(
            {
                "File Name": f"pixels\\{item.name}.png",
                "Mask Path": f"truths/{item.name}.png",
                "Patient ID": f"p{item.name}",
                "Subset": item.split,
            }
        )
    pd.DataFrame(rows).to_csv(root / "list.csv", index=False, sep=";")


def mask_table_xlsx(root: Path, items: list[Drawn], names: list[str]) -> None:
    rows = []
    for item in items:
        save(root / "pixels" / f"{item.name}.png", item.image)
        for name, mask in parts(item, names) or [("", np.zeros(0))]:
            text = json.dumps(encode_rle(mask[..., None])[0]) if name else ""
            rows.append({"image": item.name, "rle": text, "class": name, "split": item.split})
    pd.DataFrame(rows).to_excel(root / "list.xlsx", index=False)


# name -> (writer, layout, whether the classes have names, whether the split is kept)
LAYOUTS: dict[str, tuple[Callable[..., None], str]] = {
    "images and masks": (image_mask_folders, "image_mask_folders"),
    "masks with a suffix": (masks_of_255_with_suffix, "image_mask_folders"),
    "splits above": (splits_above, "image_mask_folders"),
    "splits below": (splits_below, "image_mask_folders"),
    "splits in the names": (splits_in_names, "image_mask_folders"),
    "several masks": (several_masks, "image_mask_folders"),
    "palette": (palette_masks, "image_mask_folders"),
    "numpy": (numpy_masks, "image_mask_folders"),
    "pairs": (pairs, "image_mask_pairs"),
    "pairs with @": (pairs_at, "image_mask_pairs"),
    "nnU-Net": (nnunet, "nnunet"),
    "NIfTI": (volume_folders(".nii"), "image_mask_folders"),
    "NIfTI pairs": (volume_pairs, "image_mask_pairs"),
    "NRRD": (volume_folders(".nrrd"), "image_mask_folders"),
    "MHA": (volume_folders(".mha"), "image_mask_folders"),
    "nnU-Net NIfTI": (nnunet_volumes, "nnunet"),
    "DICOM SEG": (dicom_segmentations, "dicom_seg"),
    "COCO of Roboflow": (coco_roboflow, "coco"),
    "COCO of CVAT": (coco_cvat, "coco"),
    "COCO of pycocotools": (coco_pycocotools, "coco"),
    "COCO of Label Studio": (coco_label_studio, "coco"),
    "Pascal VOC": (voc, "voc"),
    "YOLO": (yolo, "yolo"),
    "LabelMe": (labelme, "labelme"),
    "CVAT": (cvat, "cvat"),
    "Label Studio": (label_studio, "label_studio"),
    "table of paths": (mask_table, "mask_table"),
    "table of RLEs": (mask_table_xlsx, "mask_table"),
}
JOINED = {"masks with a suffix", "several masks", "pairs"}  # one class from all
NAMED = {
    *(
        "nnU-Net",
        "nnU-Net NIfTI",
        "DICOM SEG",
        "COCO of Roboflow",
        "COCO of CVAT",
        "COCO of pycocotools",
    ),
    *("COCO of Label Studio", "Pascal VOC", "YOLO", "LabelMe", "CVAT", "Label Studio"),
    "table of RLEs",
}
SPLIT = {
    *("splits above", "splits below", "splits in the names", "COCO of Roboflow"),
    *("COCO of pycocotools", "Pascal VOC", "YOLO", "table of paths", "table of RLEs"),
}
