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
from datamodules.formats.mask_images import interpret_masks, survey_masks
from datamodules.formats.rle import decode_rle
from datamodules.image_size import ImageSize, SampleKey
from datamodules.pneumothorax import PneumothoraxDataModule
from datamodules.preparation.crop import crop_dataset
from datamodules.preparation.export import export_dataset
from datamodules.preparation.inspect import check_dataset
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


def half_opaque(path, mask):
    alpha = mask * 255
    alpha[0, :3] = 90
    colors = np.dstack([mask * 200, mask * 0, mask * 0])
    Image.fromarray(np.dstack([colors, alpha])).save(path)


def on_transparent(path, mask):
    white = 255 * (1 - mask)
    Image.fromarray(np.dstack([np.full_like(mask, 255), white, white, mask * 255])).save(path)


def array(path, mask):
    np.save(path, mask.astype(bool))


def negative(path, mask):
    np.save(path, -mask.astype(np.int32))


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
    "mask-red": color((255, 0, 0)),
    "mask-blue": color((0, 0, 255)),
    "mask-100": gray(100),
    "mask-alpha": in_alpha,
    "transparent palette": clear_palette,
    "16 bits, 0 and 4000": deep(4000),
    "color on transparent": on_transparent,
    "mask-npy": array,
}
SUFFIX = {"mask-npy": "npy", "negative numbers": "npy"}


@pytest.mark.parametrize("kind", READ)
def test_the_lesion_is_where_it_is_drawn(kind, tmp_path):
    data = table(write_table(tmp_path / "data", READ[kind], SUFFIX.get(kind, "png")))
    data.prepare_data()
    assert data.cache.areas[:, 0].tolist() == [int(disc(n).sum()) for n in range(N)]
    assert all(np.array_equal(data.cache.truth(n, 1)[..., 0], disc(n)) for n in range(N))
    assert check_dataset(data)["problems"] == {}


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
    "two colors": (
        color((255, 0, 0), (0, 0, 255)),
        "the masks hold #0000ff in 12 files, #ff0000 in 12 files, such as 0.png, which do not",
    ),
    "palette of one color twice": (
        palette((0, 0, 0), (0, 0, 0)),
        "several palette entries have the same color",
    ),
    "half opaque": (half_opaque, "has an alpha channel with the values 0, 90, 255"),
    "negative numbers": (negative, "the masks hold -1 in 12 files, 0 in 12 files"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_say_where_the_lesion_is_is_refused(kind, tmp_path):
    write, said = REFUSED[kind]
    data = table(write_table(tmp_path / "data", write, SUFFIX.get(kind, "png")))
    with pytest.raises(ManifestError, match=said) as refusal:
        data.prepare_data()
    assert "/masks" in str(
        refusal.value
    ) and "write the mask as a gray image of 0 (background) and 255 (lesion)" in str(refusal.value)
    with pytest.raises(ManifestError, match=said):
        check_dataset(table(tmp_path / "data"))


def test_many_values_are_counted_and_the_first_are_listed(tmp_path):
    def write(path, mask):
        Image.fromarray(
            np.arange(SIZE * SIZE, dtype=np.uint32).reshape(SIZE, SIZE).astype(np.uint8)
        ).save(path)

    with pytest.raises(
        ManifestError,
        match=r"0 in 12 files, 1 in 12 files, .*7 in 12 files \.\.\. \(256 values\), such as",
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
def test_label_maps_are_read_by_their_numbers_and_never_as_bits(kind, tmp_path):
    root = write_table(tmp_path / "data", label_map(kind))
    data = table(root, classes=["a", "b", "c"])
    data.prepare_data()
    assert (data.cache.areas[:] == [36, 36, 64]).all()
    assert data.table.exclusive
    assert check_dataset(table(root, classes=["a", "b", "c"]))["problems"] == {}


def test_numbers_that_do_not_fit_the_classes_are_refused_with_the_key(tmp_path):
    root = write_table(tmp_path / "data", label_map(np.uint8))
    said = (
        r"0 in 12 files, 1 in 12 files, 2 in 12 files, 3 in 12 files, such as 0\.png, which do not"
        r" identify the {}; say what each is with"
        r" 'datamodule\.mask_values=\{{1: class_a, 2: class_b, 3: class_c\}}'"
    )
    for names, problem in (({}, "class lesion"), ({"classes": ["a", "b"]}, "2 classes a, b")):
        for check in (lambda data: data.prepare_data(), check_dataset):
            with pytest.raises(ManifestError, match=said.format(problem)):
                check(table(root, **names))


def test_mask_values_name_numbers_unions_background_and_unknown_pixels(tmp_path):
    root = write_table(tmp_path / "data", label_map(np.uint8))
    one = table(root, classes=["all"], mask_values={1: "all", 2: "background", 3: ["all"]})
    one.prepare_data()
    assert (one.cache.areas[:] == [36 + 64]).all() and not one.table.exclusive
    two = table(root, classes=["a", "b"], mask_values={1: "a", 2: "b", 3: ["a", "b"]})
    two.prepare_data()
    assert (two.cache.areas[:] == [36 + 64, 36 + 64]).all() and not two.table.exclusive
    unknown = table(root, classes=["a", "b"], ignore_value=3)
    unknown.prepare_data()
    assert (unknown.cache.areas[:] == [36, 36]).all() and unknown.table.exclusive
    labels = np.asarray(Image.open(root / "masks/0.png"))
    outside = SIZE * SIZE - 36 - 64
    assert unknown.pixels.tolist() == [[6 * outside, 6 * 36]] * 2
    for evaluation in (False, True):
        sample = unknown.dataset(evaluation)[SampleKey(0, 0, 0, ImageSize(SIZE, SIZE))]
        assert np.array_equal(sample["ignored"][0].numpy(), labels == 3)
        assert np.array_equal(sample["mask"].numpy(), [labels == 1, labels == 2])
    assert np.array_equal(sample["truth_ignored"][0].numpy(), labels == 3)
    assert np.array_equal(sample["truth"].numpy(), [labels == 1, labels == 2])
    one = table(root, mask_values={1: "a", 2: "a"}, classes=["a"], ignore_value=3)
    one.prepare_data()
    assert np.array_equal(one.cache.mask(0, 1)[..., 0], (labels == 1) | (labels == 2))
    with pytest.raises(
        ManifestError, match=r"holds the value 3, which datamodule.mask_values does not name"
    ):
        table(root, classes=["a", "b"], mask_values={1: "a", 2: "b"}).prepare_data()
    with pytest.raises(ManifestError, match="names a, and not b; name each class"):
        table(root, classes=["a", "b"], mask_values={1: "a", 2: "a"}).prepare_data()


def objects(number_of):
    """Number the objects of each image from 1; image n has 1 + n % 3 of them."""

    def write(path, mask):
        labels = np.zeros((SIZE, SIZE), np.uint8)
        for k in range(number_of(int(path.stem))):
            labels[5 + 12 * k : 11 + 12 * k, 5:11] = k + 1
        Image.fromarray(labels).save(path)

    return write


def test_numbers_of_objects_are_not_taken_for_classes(tmp_path):
    root = write_table(tmp_path / "data", objects(lambda n: 1 + n % 3))
    with pytest.raises(
        ManifestError, match=r"may number objects of one class; set 'datamodule.mask_values=.any: "
    ):
        interpret_masks(survey_masks(sorted((root / "masks").iterdir())))
    data = table(root, mask_values={"any": "lesion"})
    data.prepare_data()
    assert data.cache.areas[:, 0].tolist() == [36 * (1 + n % 3) for n in range(N)]
    two = table(root, classes=["a", "b", "c"])  # the user says that they are classes
    two.prepare_data()
    assert two.cache.areas[2].tolist() == [36, 36, 36]
    all_three = write_table(tmp_path / "equal" / "data", objects(lambda n: 3))
    reading = interpret_masks(survey_masks(sorted((all_three / "masks").iterdir())))
    assert reading.classes == ("class_1", "class_2", "class_3")  # every image has all of them


def test_colors_are_classes_if_they_are_named(tmp_path):
    def write(path, mask):
        colors = np.zeros((SIZE, SIZE, 3), np.uint8)
        colors[5:11, 5:11], colors[40:48, 30:38] = (255, 0, 0), (0, 255, 0)
        Image.fromarray(colors).save(path)

    root = write_table(tmp_path / "data", write)
    with pytest.raises(ManifestError, match=r'datamodule.mask_values=\{"#00ff00": class_a'):
        table(root).prepare_data()
    data = table(root, classes=["a", "b"], mask_values={"#ff0000": "a", "#00FF00": "b"})
    data.prepare_data()
    assert (data.cache.areas[:] == [36, 64]).all()


def test_palettes_that_number_their_colors_differently_go_by_color(tmp_path):
    def numbered(first, second):
        def write(path, mask):
            labels = np.zeros((SIZE, SIZE), np.uint8)
            labels[5:11, 5:11], labels[40:48, 30:38] = first, second
            red_green = [(255, 0, 0), (0, 255, 0)] if first == 1 else [(0, 255, 0), (255, 0, 0)]
            palette((0, 0, 0), *red_green)(path, labels)

        return write

    root = write_table(tmp_path / "data", numbered(1, 2), odd=numbered(2, 1))
    with pytest.raises(ManifestError, match="#00ff00 in 12 files, #ff0000 in 12 files"):
        table(root, classes=["a", "b"]).prepare_data()
    data = table(root, classes=["a", "b"], mask_values={"#ff0000": "a", "#00ff00": "b"})
    data.prepare_data()
    assert (data.cache.areas[:] == [36, 64]).all()
    with pytest.raises(ManifestError, match="number their colors differently"):
        table(root, classes=["a", "b"], mask_values={1: "a", 2: "b"}).prepare_data()


def test_several_masks_of_one_image_are_joined(tmp_path):
    root = write_table(tmp_path / "data", gray(255))
    rows = pd.read_csv(root / "manifest.csv")
    for n in range(N):
        Image.fromarray(disc(n)[::-1] * np.uint8(1)).save(root / f"masks/{n}_b.png")
    rows["mask"] = [f'["masks/{n}.png", "masks/{n}_b.png"]' for n in range(N)]
    rows.to_csv(root / "manifest.csv", index=False)
    data = table(root)
    data.prepare_data()
    both = [int((disc(n) | disc(n)[::-1]).sum()) for n in range(N)]
    assert data.cache.areas[:, 0].tolist() == both


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
    assert check_dataset(table(root))["cleaning"]["mask with soft edges: cut at 127"]["count"] == N


def test_a_label_beside_white_is_no_soft_edge(tmp_path):
    def ring(value):
        def write(path, mask):
            labels = mask * np.uint8(255)
            labels[1:7, 1:7] = value
            Image.fromarray(labels).save(path)

        return write

    for number, value in enumerate((1, 100, 128, 200)):
        with pytest.raises(
            ManifestError, match=f"0 in 12 files, {value} in 12 files, 255 in 12 files"
        ):
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

    with pytest.raises(ManifestError, match=r"\(.* values\), such as .*, which do not"):
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
        check_dataset,
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
        check_dataset(table(root, inverted_masks="invert"))["problems"]
        == {}
        == check_dataset(table(root, inverted_masks="keep"))["problems"]
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
    gray(100)(root / "masks" / "bad.png", disc(4) + disc(2))
    for check in (lambda data: data.prepare_data(), check_dataset):
        with pytest.raises(ManifestError, match=r"masks/bad\.png holds the values 0, 100, 200"):
            check(table(root))
    cropped = rows.assign(cropped_mask=rows["mask"].where(rows["split"] == "train"))
    cropped.to_csv(root / "manifest.csv", index=False)
    squares = table(root, mask_column="cropped_mask")
    squares.prepare_data()
    assert (
        squares.cache.areas[:, 0].tolist() == [int(disc(n).sum()) for n in range(N)]
        and check_dataset(squares)["problems"] == {}
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
    remembered = list((tmp_path / "cache").glob("labels*.kept"))
    assert len(remembered) == 1 and remembered[0].name.startswith("labels-2-")


def test_siim_masks_that_say_nothing_are_refused(tmp_path):
    def two_grays(path, mask):
        Image.fromarray(mask * np.uint8(100) + disc(1) * np.uint8(50)).save(path)

    root = write_siim(tmp_path / "data", two_grays)
    for check in (lambda data: data.prepare_data(), check_dataset):
        with pytest.raises(ManifestError, match=r"png_masks/.* holds the values 0, 50, 100"):
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
