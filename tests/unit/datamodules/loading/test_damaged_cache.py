"""Tests of damaged caches: they never show other pixels, and are rebuilt in one sentence."""

import io
import os
import pickle
import shutil
from contextlib import redirect_stderr
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from datamodules.errors import UserError
from datamodules.formats.image_cache import CONTENTS_FILE, DAMAGE_FILE, ImageCache
from datamodules.formats.rle import encode_rle
from datamodules.image_size import SampleKey
from datamodules.loading.cache_builder import STAMPS_FILE, build_cache
from datamodules.loading.dataset import ManifestDataset, collate
from datamodules.manifest.manifest import Manifest

N, SIZE = 4, 32
ARRAYS = ("sizes", "areas", "thumbnails", "digests", "nearly_uniform", "soft_masks", "notes")


def make_manifest(folder: Path, seed: int = 0, depth: type = np.uint8) -> Manifest:
    """Images of noise with two classes, so that no two rows or pages are alike."""
    random, rows = np.random.default_rng(seed), []
    folder.mkdir(exist_ok=True)
    for i in range(N):
        image = random.integers(0, np.iinfo(depth).max, (20, 30 + i), depth)
        cv2.imwrite(str(folder / f"{i}.png"), image)
        mask = (random.random((*image.shape, 2)) < 0.3).astype(np.uint8)
        rows.append({"id": str(i), "image": str(folder / f"{i}.png"), "mask": encode_rle(mask)})
    return Manifest(pd.DataFrame(rows), classes=("a", "b"))


def content(cache: ImageCache) -> list[np.ndarray]:
    """Everything that a run reads."""
    window = (0.0, 65535.0)
    rows = [
        each
        for row in range(N)
        for each in (cache.image(row, window), cache.mask(row, 2), cache.truth(row, 2))
    ]
    return [*rows, *(np.asarray(getattr(cache, name)) for name in ARRAYS), cache.blank(window)]


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture
def manifest(tmp_path):
    return make_manifest(tmp_path / "images")


@pytest.fixture
def cache(manifest, tmp_path):
    return build_cache(manifest, SIZE, 1, tmp_path / "cache")


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    """A manifest, its cache and what it holds, of 8 and of 16 bits."""
    found = []
    for depth in (np.uint8, np.uint16):
        folder = tmp_path_factory.mktemp("template")
        manifest = make_manifest(folder / "images", depth=depth)
        cache = build_cache(manifest, SIZE, 1, folder / "cache")
        found.append((manifest, cache.folder, content(cache)))
    return found


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


@given(data=st.data())
def test_a_flipped_bit_anywhere_is_noticed_and_never_shows_other_pixels(
    templates, tmp_path_factory, data
):
    manifest, folder, expected = templates[data.draw(st.integers(0, 1))]
    work = tmp_path_factory.mktemp("flipped")
    place = work / folder.name
    shutil.copytree(folder, place)
    path = data.draw(st.sampled_from(sorted(place.iterdir())))
    flip(path, data.draw(st.integers(0, 8 * path.stat().st_size - 1)))
    said = io.StringIO()
    with redirect_stderr(said):
        assert same(content(build_cache(manifest, SIZE, 1, work)), expected)
        again = build_cache(manifest, SIZE, 1, work)
    assert same(content(again), expected) and not (again.folder / DAMAGE_FILE).exists()
    assert path.name == STAMPS_FILE or "is damaged" in said.getvalue()
    shutil.rmtree(work)


def zero_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-600:-100] = bytes(500)
    path.write_bytes(data)


def into_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def into_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGE = {
    "zeros": zero_page,
    "cut short": lambda path: os.truncate(path, path.stat().st_size - 1),
    "empty": lambda path: path.write_bytes(b""),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "missing": Path.unlink,
    "a folder": into_folder,
    "a fifo": into_fifo,
    "a link to nothing": lambda path: (path.unlink(), path.symlink_to("nothing")),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("name", ["images", "masks", "truth", "sizes", "thumbnails"])
def test_a_damaged_file_is_named_and_rebuilt(cache, manifest, tmp_path, capsys, damage, name):
    expected = content(cache)
    damage(cache.folder / f"{name}.npy")
    capsys.readouterr()
    again = build_cache(manifest, SIZE, 1, tmp_path / "cache")
    assert same(content(again), expected)
    build_cache(manifest, SIZE, 1, tmp_path / "cache")
    said = [line for line in capsys.readouterr().err.splitlines() if "is damaged" in line]
    assert f"{name}.npy" in said[0] and "rebuil" in said[0]
    assert build_cache(manifest, SIZE, 1, tmp_path / "cache").folder == cache.folder
    assert not capsys.readouterr().err


def test_files_of_another_cache_are_noticed(cache, manifest, tmp_path, capsys):
    expected = content(cache)
    other = build_cache(make_manifest(tmp_path / "others", 1), SIZE, 1, tmp_path / "cache")
    shutil.copy(other.folder / "masks.npy", cache.folder / "masks.npy")
    assert same(content(build_cache(manifest, SIZE, 1, tmp_path / "cache")), expected)
    shutil.rmtree(cache.folder)
    other.folder.rename(cache.folder)
    assert same(content(build_cache(manifest, SIZE, 1, tmp_path / "cache")), expected)
    assert "which was moved" in capsys.readouterr().err


def test_masks_that_change_places_are_noticed(cache, manifest, tmp_path, capsys):
    expected, path = content(cache), cache.folder / "masks.npy"
    data = path.read_bytes()
    header, size = len(data) - N * SIZE * SIZE, SIZE * SIZE
    rows = [data[header + i * size : header + (i + 1) * size] for i in range(N)]
    path.write_bytes(data[:header] + b"".join([rows[1], rows[0], *rows[2:]]))
    assert same(content(build_cache(manifest, SIZE, 1, tmp_path / "cache")), expected)
    assert "masks.npy, row 0," in capsys.readouterr().err


def test_a_file_in_place_of_the_cache(cache, manifest, tmp_path):
    expected = content(cache)
    shutil.rmtree(cache.folder)
    cache.folder.write_text("no cache")
    assert same(content(build_cache(manifest, SIZE, 1, tmp_path / "cache")), expected)


def test_a_cache_that_lost_its_list_is_built_anew(cache, manifest, tmp_path, capsys):
    (cache.folder / CONTENTS_FILE).unlink()
    again = build_cache(manifest, SIZE, 1, tmp_path / "cache")
    assert same(content(again), content(cache)) and "contents.kept is missing" in (
        capsys.readouterr().err
    )


def load_all(dataset: ManifestDataset, start: str | None) -> list[np.ndarray]:
    keys = [[SampleKey(row, 0, 0, SIZE)] for row in range(N)]
    loader = DataLoader(
        dataset,
        batch_sampler=keys,  # type: ignore[arg-type]
        collate_fn=collate,
        num_workers=0 if start is None else 2,
        multiprocessing_context=start,
    )
    return [batch["image"].numpy().copy() for batch in loader]


@pytest.mark.parametrize("start", [None, "fork", "spawn"])
def test_loader_processes_mend_damaged_rows(cache, manifest, tmp_path, start, capfd):
    expected = load_all(ManifestDataset(cache, manifest, 0), None)
    zero_page(cache.folder / "images.npy")
    damaged = ManifestDataset(build_cache(manifest, SIZE, 1, tmp_path / "cache"), manifest, 0)
    assert same(load_all(damaged, start), expected)
    said = capfd.readouterr().err
    assert said.count("is damaged") == 1 and f"row {N - 1}" in said
    build_cache(manifest, SIZE, 1, tmp_path / "cache")
    assert "rebuilt" in capfd.readouterr().err


@pytest.mark.parametrize("start", [None, "fork"])
def test_a_damaged_row_whose_image_has_changed_ends_in_one_sentence(
    cache, manifest, tmp_path, start
):
    zero_page(cache.folder / "images.npy")
    damaged = build_cache(manifest, SIZE, 1, tmp_path / "cache")
    cv2.imwrite(manifest.rows["image"][N - 1], np.full((20, 30 + N - 1), 9, np.uint8))
    with pytest.raises(UserError) as caught:
        load_all(ManifestDataset(damaged, manifest, 0), start)
    assert "\n" not in str(caught.value) and "gives other pixels by now" in str(caught.value)


def test_a_damaged_row_whose_image_is_gone_ends_in_one_sentence(cache, manifest, tmp_path):
    zero_page(cache.folder / "images.npy")
    damaged = build_cache(manifest, SIZE, 1, tmp_path / "cache")
    Path(manifest.rows["image"][N - 1]).unlink()
    with pytest.raises(UserError, match=r"is damaged .* does not exist"):
        damaged.image(N - 1, None)


def test_thumbnails_that_are_damaged_later_are_not_used(cache):
    zero_page(cache.folder / "thumbnails.npy")
    with pytest.raises(UserError, match="was damaged during the run"):
        _ = cache.thumbnails


def test_a_cache_that_is_deleted_while_it_is_open_can_be_read(cache, manifest, capsys):
    expected = content(build_cache(manifest, SIZE, 1, cache.folder.parent))
    shutil.rmtree(cache.folder.parent)
    assert same(content(cache), expected) and not capsys.readouterr().err
    dataset = ManifestDataset(cache, manifest, 0)
    images = load_all(dataset, None)
    assert same(load_all(dataset, "fork"), images) and same(load_all(dataset, "spawn"), images)


def test_a_spawned_process_refuses_other_pixels(cache, manifest):
    copy = pickle.dumps(cache)
    shutil.rmtree(cache.folder.parent)
    cv2.imwrite(manifest.rows["image"][0], np.full((20, 30), 9, np.uint8))
    with pytest.raises(UserError, match="have changed since it began"):
        pickle.loads(copy).image(0, None)


def test_a_running_process_does_not_blame_the_cache_that_replaced_its_own(
    cache, manifest, tmp_path
):
    zero_page(cache.folder / "images.npy")
    running = build_cache(manifest, SIZE, 1, tmp_path / "cache")
    (cache.folder / "sizes.npy").unlink()
    build_cache(manifest, SIZE, 1, tmp_path / "cache")
    running.image(N - 1, None)
    assert not (cache.folder / DAMAGE_FILE).exists()


def test_a_cache_that_may_not_be_written_is_used(cache, manifest, tmp_path, monkeypatch):
    expected = content(cache)
    zero_page(cache.folder / "images.npy")
    own = Path.open

    def refuse(path, mode="r", *arguments, **more):
        if "r" not in mode:
            raise PermissionError(13, "Permission denied", str(path))
        return own(path, mode, *arguments, **more)

    monkeypatch.setattr(Path, "open", refuse)
    assert same(content(build_cache(manifest, SIZE, 1, tmp_path / "cache")), expected)
