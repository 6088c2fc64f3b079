"""Tests of mask pictures of every kind, through the datamodules.

The lesion is read where it is drawn, or a sentence names file, values and fix.
"""

import json

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter

from datamodules.errors import ManifestError
from datamodules.formats.rle import decode_rle
from datamodules.pneumothorax import PneumothoraxDataModule
from datamodules.preparation.crop import crop_dataset
from datamodules.preparation.export import export_dataset
from datamodules.preparation.validate import validate_dataset
from datamodules.table import TableDataModule

N, SIZE = 12, 64
SPLITS = ["train"] * 6 + ["val"] * 3 + ["test"] * 3


def disc(number):
    """A lesion of radius 7 whose place depends on the image; 0/1 `H x W`."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return ((rows - 14 - 3 * number) ** 2 + (columns - 20 - 2 * number) ** 2 <= 49).astype(np.uint8)


def film(number):
    noise = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def gray(value):
    return lambda path, mask: Image.fromarray(mask * np.uint8(value)).save(path)


def deep(value):
    return lambda path, mask: Image.fromarray(mask.astype(np.uint16) * np.uint16(value)).save(path)


def one_bit(path, mask):
    Image.fromarray(mask > 0).save(path)


def palette(*colors):
    def write(path, mask):
        picture = Image.fromarray(mask).convert("P")
        picture.putdata(mask.ravel().tolist())
        picture.putpalette([value for color in colors for value in color])
        picture.save(path)

    return write


def color(lesion, background=(0, 0, 0)):
    return lambda path, mask: Image.fromarray(
        np.where(mask[..., None] > 0, np.uint8(lesion), np.uint8(background))
    ).save(path)


def opaque(path, mask):
    Image.fromarray(np.dstack([mask * 255] * 3 + [np.full_like(mask, 255)])).save(path)


def in_alpha(path, mask):
    Image.fromarray(np.dstack([np.full_like(mask, 255)] * 3 + [mask * 255])).save(path)


def clear_palette(path, mask):
    picture = Image.fromarray(mask).convert("P")
    picture.putdata(mask.ravel().tolist())
    picture.putpalette([255, 255, 255, 255, 255, 255])
    picture.save(path, transparency=0)


def deep_color(path, mask):
    cv2.imwrite(str(path), np.dstack([mask.astype(np.uint16)] * 3))


def black_on_white(path, mask):
    Image.fromarray((1 - mask) * np.uint8(255)).save(path)


def write_table(root, write, suffix="png", odd=None):
    """A table of N images with one mask picture each; `odd` writes every second one."""
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    rows = []
    for n in range(N):
        Image.fromarray(film(n)).save(root / "images" / f"{n}.png")
        (odd if odd and n % 2 else write)(root / "masks" / f"{n}.{suffix}", disc(n))
        rows.append(
            {
                "id": f"i{n}",
                "image": f"images/{n}.png",
                "mask": f"masks/{n}.{suffix}",
                "group": f"p{n}",
                "split": SPLITS[n],
            }
        )
    pd.DataFrame(rows).to_csv(root / "manifest.csv", index=False)
    return root


def write_siim(root, write):
    """Write png_images and png_masks; all names but three say that there is a pneumothorax."""
    for part in ("png_images", "png_masks"):
        (root / part).mkdir(parents=True)
    for n in range(30):
        label = int(n % 10 != 0)
        name = f"{n}_{'test' if n >= 24 else 'train'}_{label}_.png"
        Image.fromarray(film(n)).save(root / "png_images" / name)
        write(root / "png_masks" / name, disc(n % N) * np.uint8(label))
    return root


def table(root, **more):
    words = {"image_size": SIZE, "num_workers": 0} | more
    return TableDataModule(root=str(root), cache_dir=str(root.parent / "cache"), **words)


def siim(root, **more):
    return PneumothoraxDataModule(
        root=str(root), cache_dir=str(root.parent / "cache"), image_size=SIZE, num_workers=0, **more
    )


READ = {
    "mask-01": gray(1),
    "0 and 255": gray(255),
    "1 bit": one_bit,
    "16 bits, 0 and 1": deep(1),
    "16 bits, 0 and 255": deep(255),
    "16 bits, 0 and 65535": deep(65535),
    "mask-palette": palette((0, 0, 0), (128, 0, 0)),
    "palette of black and white": palette((0, 0, 0), (255, 255, 255)),
    "palette of black and nearly black": palette((0, 0, 0), (1, 1, 1)),
    "white in color": color((255, 255, 255)),
    "1 in color": color((1, 1, 1)),
    "1 in 16-bit color": deep_color,
    "opaque alpha": opaque,
}


@pytest.mark.parametrize("kind", READ)
def test_the_lesion_is_where_it_is_drawn(kind, tmp_path):
    data = table(write_table(tmp_path / "data", READ[kind]))
    data.prepare_data()
    assert data.cache.areas[:, 0].tolist() == [int(disc(n).sum()) for n in range(N)]
    assert all(np.array_equal(data.cache.truth(n, 1)[..., 0], disc(n)) for n in range(N))
    assert validate_dataset(data)["problems"] == {}


def test_mask_01_some(tmp_path):
    data = table(write_table(tmp_path / "data", gray(1), odd=gray(255)))
    data.prepare_data()
    assert data.cache.areas[:, 0].tolist() == [int(disc(n).sum()) for n in range(N)]


def test_white_index_0_and_black_index_1_go_by_color(tmp_path):
    data = table(
        write_table(
            tmp_path / "data",
            lambda path, mask: palette((255, 255, 255), (0, 0, 0))(path, 1 - mask),
        )
    )
    data.prepare_data()
    assert data.cache.areas[:, 0].tolist() == [int(disc(n).sum()) for n in range(N)]


REFUSED = {
    "mask-red": (
        color((255, 0, 0)),
        r"holds the colors \(0, 0, 0\), \(255, 0, 0\), which do not identify",
    ),
    "mask-blue": (
        color((0, 0, 255)),
        r"holds the colors \(0, 0, 0\), \(0, 0, 255\), which do not identify",
    ),
    "mask-100": (gray(100), "holds the values 0, 100, which do not identify"),
    "mask-alpha": (in_alpha, "has an alpha channel with the values 0, 255"),
    "palette without black": (
        palette((255, 255, 255), (128, 0, 0)),
        "of a palette, and none of them is black",
    ),
    "palette of one color twice": (
        palette((0, 0, 0), (0, 0, 0)),
        "several palette entries have the same color",
    ),
    "transparent palette": (clear_palette, "of a palette, some of them transparent"),
    "16 bits, 0 and 4000": (deep(4000), "holds the values 0, 4000"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_say_where_the_lesion_is_is_refused(kind, tmp_path):
    write, said = REFUSED[kind]
    data = table(write_table(tmp_path / "data", write))
    with pytest.raises(ManifestError, match=said) as refusal:
        data.prepare_data()
    assert "masks/" in str(
        refusal.value
    ) and "write the mask as a gray image of 0 (background) and 255 (lesion)" in str(refusal.value)
    with pytest.raises(ManifestError, match=said):
        validate_dataset(table(tmp_path / "data"))


def test_many_values_are_counted_and_the_first_are_listed(tmp_path):
    def write(path, mask):
        Image.fromarray(
            np.arange(SIZE * SIZE, dtype=np.uint32).reshape(SIZE, SIZE).astype(np.uint8)
        ).save(path)

    with pytest.raises(
        ManifestError, match=r"holds the values 0, 1, 2, 3, 4, 5, 6, 7 \.\.\. \(256 values\), which"
    ):
        table(write_table(tmp_path / "data", write)).prepare_data()


def label_map(kind):
    """Labels 1, 2 and 3 on 36, 36 and 64 pixels."""

    def write(path, mask):
        labels = np.zeros((SIZE, SIZE), kind)
        labels[5:11, 5:11], labels[20:26, 5:11], labels[40:48, 30:38] = 1, 2, 3
        Image.fromarray(labels).save(path)

    return write


@pytest.mark.parametrize("kind", [np.uint8, np.uint16], ids=["mask-labels", "mask-labels-16"])
def test_label_maps_are_never_read_as_bit_planes_without_being_told(kind, tmp_path):
    root = write_table(tmp_path / "data", label_map(kind))
    said = (
        r"is one mask image for 3 classes, and no encoding is set; set"
        r" datamodule\.mask_encoding=bit_planes"
    )
    for check in (lambda data: data.prepare_data(), validate_dataset):
        with pytest.raises(ManifestError, match=said):
            check(table(root, classes=["a", "b", "c"]))
    with pytest.raises(ManifestError, match="holds the values 0, 1, 2, 3, which do not identify"):
        table(root).prepare_data()
    two = table(root, classes=["a", "b"], mask_encoding="bit_planes")
    two.prepare_data()
    assert (two.cache.areas[:] == [36 + 64, 36 + 64]).all()


def test_bits_above_the_classes_are_refused_and_a_manifest_may_say_what_its_pictures_are(tmp_path):
    def write(path, mask):
        Image.fromarray(mask * np.uint8(1) + disc(1) * np.uint8(4)).save(path)

    root = write_table(tmp_path / "data", write)
    with pytest.raises(
        ManifestError,
        match=r"holds the values 0, 1, 4.*, but the bits of 2 classes give values from 0 to 3",
    ):
        table(root, classes=["a", "b"], mask_encoding="bit_planes").prepare_data()
    text = (root / "manifest.csv").read_text()
    (root / "manifest.csv").write_text(
        '# {"version": 1, "classes": ["a", "b", "c"], "mask_encoding": "bit_planes"}\n' + text
    )
    data = table(root)
    data.prepare_data()
    assert data.cache.areas[:].tolist() == [
        [int(disc(n).sum()), 0, int(disc(1).sum())] for n in range(N)
    ]
    (root / "manifest.csv").write_text(
        '# {"version": 1, "classes": ["a", "b", "c"], "mask_encoding": "labels"}\n' + text
    )
    with pytest.raises(
        ManifestError,
        match=r"manifest\.csv: mask_encoding=labels is unknown; write bit_planes, or null",
    ):
        table(root).prepare_data()


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_soft_edges_are_cut_and_counted_also_when_the_cache_is_reused(suffix, tmp_path):
    def soft(path, mask):
        picture = Image.fromarray(mask * np.uint8(255)).resize((256, 256), Image.Resampling.BICUBIC)
        picture.save(path, **({"quality": 90} if suffix == "jpg" else {}))

    root = write_table(tmp_path / "data", soft, suffix)
    for n in range(N):
        Image.fromarray(film(n)).resize((256, 256)).save(root / "images" / f"{n}.png")
    for _ in range(2):
        data = table(root)
        data.prepare_data()
        assert data.cleaning["mask with soft edges: cut at 127"] == N
        assert data.cache.areas[:, 0].tolist() == [
            int((np.asarray(Image.open(root / f"masks/{n}.{suffix}")) > 127).sum())
            for n in range(N)
        ]
    assert (
        validate_dataset(table(root))["cleaning"]["mask with soft edges: cut at 127"]["count"] == N
    )


def test_a_label_beside_white_is_no_soft_edge(tmp_path):
    def ring(value):
        def write(path, mask):
            labels = mask * np.uint8(255)
            labels[1:7, 1:7] = value
            Image.fromarray(labels).save(path)

        return write

    for number, value in enumerate((1, 100, 128, 200)):
        with pytest.raises(ManifestError, match=f"holds the values 0, {value}, 255"):
            table(write_table(tmp_path / str(number) / "data", ring(value))).prepare_data()


def test_specks_of_dark_gray_beside_pure_white_are_soft(tmp_path):
    def specks(path, mask):
        labels = mask * np.uint8(255)
        labels[2, 2:6], labels[60, [3, 50]] = (2, 6, 11, 19), 2
        Image.fromarray(labels).save(path)

    data = table(write_table(tmp_path / "data", specks))
    data.prepare_data()
    assert (
        data.cache.areas[:, 0].tolist() == [int(disc(n).sum()) for n in range(N)]
        and data.cleaning["mask with soft edges: cut at 127"] == N
    )


def test_very_soft_masks_are_refused(tmp_path):
    def blurred(path, mask):
        Image.fromarray(mask * np.uint8(255)).filter(ImageFilter.GaussianBlur(3)).save(path)

    with pytest.raises(ManifestError, match=r"\(.* values\), which do not identify the lesion"):
        table(write_table(tmp_path / "data", blurred)).prepare_data()


def test_mask_black_on_white(tmp_path):
    root = write_table(tmp_path / "data", black_on_white)
    said = (
        "12 of 12 masks of class lesion cover most of their image, such as 'i0'; set"
        " datamodule.inverted_masks=invert"
    )
    out = tmp_path / "out"
    for check in (
        lambda data: data.prepare_data(),
        validate_dataset,
        lambda data: export_dataset(data, out, None),
        lambda data: crop_dataset(data, out),
    ):
        with pytest.raises(ManifestError, match=said):
            check(table(root))
    inverted, kept = table(root, inverted_masks="invert"), table(root, inverted_masks="keep")
    for data in (inverted, kept):
        data.prepare_data()
    assert inverted.cache.areas[:, 0].tolist() == [int(disc(n).sum()) for n in range(N)]
    assert kept.cache.areas[:, 0].tolist() == [SIZE * SIZE - int(disc(n).sum()) for n in range(N)]
    assert inverted.cache.folder != kept.cache.folder
    assert np.array_equal(inverted.cache.truth(3, 1)[..., 0], disc(3)) and np.array_equal(
        inverted.cache.mask(3, 1)[..., 0], disc(3)
    )
    assert inverted.cleaning["mask whose foreground and background were swapped"] == N
    assert (
        validate_dataset(table(root, inverted_masks="invert"))["problems"]
        == {}
        == validate_dataset(table(root, inverted_masks="keep"))["problems"]
    )


def test_inverted_masks_are_exported_and_cropped_the_right_way_round(tmp_path):
    root = write_table(tmp_path / "data", black_on_white)
    for number, step in enumerate(
        (lambda data, folder: export_dataset(data, folder, None), crop_dataset)
    ):
        folder = step(table(root, inverted_masks="invert"), tmp_path / str(number))
        made = table(folder, manifest_name="meta.json")
        made.prepare_data()
        assert made.cache.areas[:, 0].tolist() == [int(disc(n).sum()) for n in range(N)]
    squares = table(folder, manifest_name="meta.json", mask_column="cropped_mask")
    squares.prepare_data()
    assert squares.cache.areas[:, 0].tolist() == [int(disc(n).sum()) for n in range(N)]


def test_a_lesion_may_be_large_in_some_images(tmp_path):
    def large(path, mask):
        Image.fromarray(
            np.pad(np.zeros((4, SIZE), np.uint8), ((0, SIZE - 4), (0, 0)), constant_values=255)
        ).save(path)

    root = write_table(tmp_path / "data", gray(255))
    for n in range(6):
        large(root / "masks" / f"{n}.png", None)
    table(root).prepare_data()
    large(root / "masks" / "6.png", None)
    with pytest.raises(ManifestError, match="7 of 12 masks of class lesion cover most"):
        table(root).prepare_data()


def test_run_lengths_are_swapped_too_and_no_mask_stays_no_mask(tmp_path):
    from datamodules.formats.rle import encode_rle

    root = write_table(tmp_path / "data", gray(255))
    rows = pd.read_csv(root / "manifest.csv").to_dict("records")
    rows = [
        row | {"mask": encode_rle(1 - disc(n)[..., None]) if n not in (0, 6, 9) else None}
        for n, row in enumerate(rows)
    ]
    (root / "manifest.json").write_text(json.dumps({"rows": rows}))
    data = table(root, manifest_name="manifest.json", inverted_masks="invert")
    data.prepare_data()
    assert data.cache.areas[:, 0].tolist() == [
        int(disc(n).sum()) * (n not in (0, 6, 9)) for n in range(N)
    ]
    assert np.array_equal(
        decode_rle(data.table.rles(1), SIZE, SIZE)[..., 0], disc(1)
    ) and data.table.rles(0) == [None]


def test_true_masks_and_cropped_masks_are_read_alike(tmp_path):
    root = write_table(tmp_path / "data", gray(1))
    rows = pd.read_csv(root / "manifest.csv")
    rows.assign(true_mask=rows["mask"]).to_csv(root / "manifest.csv", index=False)
    data = table(root)
    data.prepare_data()
    assert (
        data.cache.true_areas.tolist()
        == data.cache.areas[:, 0].tolist()
        == [int(disc(n).sum()) for n in range(N)]
    )
    rows.assign(true_mask=rows["mask"].where(rows.index != 4, "masks/bad.png")).to_csv(
        root / "manifest.csv", index=False
    )
    gray(100)(root / "masks" / "bad.png", disc(4))
    for check in (lambda data: data.prepare_data(), validate_dataset):
        with pytest.raises(ManifestError, match=r"masks/bad\.png holds the values 0, 100"):
            check(table(root))
    cropped = rows.assign(cropped_mask=rows["mask"].where(rows["split"] == "train"))
    cropped.to_csv(root / "manifest.csv", index=False)
    squares = table(root, mask_column="cropped_mask")
    squares.prepare_data()
    assert (
        squares.cache.areas[:, 0].tolist() == [int(disc(n).sum()) for n in range(N)]
        and validate_dataset(squares)["problems"] == {}
    )


@pytest.mark.parametrize("kind", ["mask-01", "mask-palette", "1 bit"])
def test_mask_siim_01(kind, tmp_path):
    data = siim(write_siim(tmp_path / "data", READ[kind]))
    data.prepare_data()
    numbers = [int(id.split("_")[0]) for id in data.table.rows["id"]]
    labels = [int(n % 10 != 0) for n in numbers]
    assert data.table.rows["label"].tolist() == labels and not [
        reason for reason in data.cleaning.as_dict() if "by the mask" in reason
    ]
    assert data.cache.areas[:, 0].tolist() == [
        int(disc(n % N).sum()) * label for n, label in zip(numbers, labels, strict=True)
    ]


def test_labels_that_an_older_version_remembered_are_not_believed(tmp_path):
    root = write_siim(tmp_path / "data", gray(1))
    _ = siim(root).table
    remembered = list((tmp_path / "cache").glob("labels*.json"))
    assert len(remembered) == 1 and remembered[0].name.startswith("labels-2-")


def test_siim_masks_that_say_nothing_are_refused(tmp_path):
    root = write_siim(tmp_path / "data", gray(100))
    for check in (lambda data: data.prepare_data(), validate_dataset):
        with pytest.raises(ManifestError, match=r"png_masks/.* holds the values 0, 100"):
            check(siim(root))


def test_inverted_siim_masks(tmp_path):
    root = write_siim(tmp_path / "data", black_on_white)
    with pytest.raises(
        ManifestError,
        match=r"masks of class pneumothorax cover most .* datamodule\.inverted_masks=invert",
    ):
        siim(root).prepare_data()
    data = siim(root, inverted_masks="invert")
    data.prepare_data()
    labels = [int(int(id.split("_")[0]) % 10 != 0) for id in data.table.rows["id"]]
    assert (
        data.table.rows["label"].tolist()
        == labels
        == (data.cache.areas[:, 0] > 0).astype(int).tolist()
    )
