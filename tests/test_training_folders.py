"""Folders of training images: told apart, weighed, searched; and what of them is held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from napari_dps.errors import InputError
from napari_dps.training.data import Patches
from napari_dps.training.images import Collection, collect


def grey(seed: int, shape: tuple[int, ...] = (64, 64)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def fill(folder: Path, count: int, shape: tuple[int, ...] = (64, 64)) -> Path:
    """Write .npy images into a folder, which is made."""
    folder.mkdir(parents=True)
    for index in range(count):
        np.save(folder / f"{index}.npy", grey(index, shape))
    return folder


def weights_by_group(found: Collection) -> dict[str, float]:
    return {source.group: source.weight for source in found.train}


@pytest.fixture
def twins(tmp_path: Path) -> Path:
    """Return a folder with A/images and B/images, six files each."""
    for outer in "AB":
        fill(tmp_path / "all" / outer / "images", 6)
    return tmp_path / "all"


def test_folders_of_one_name_stay_apart(twins: Path) -> None:
    found = collect([twins / "A" / "images", twins / "B" / "images"], weights={"B/images": 5})
    assert weights_by_group(found) == {"A/images": 1.0, "B/images": 5.0}
    assert {s.name for s in found.train + found.held_out} == {
        f"{outer}/images/{index}.npy" for outer in "AB" for index in range(6)
    }
    assert set(found.facts()) == {"A/images", "B/images"}


@pytest.mark.parametrize("key", ["B", "B/images", "all/B", "./B/"])
def test_a_folder_below_the_one_given_has_a_weight(twins: Path, key: str) -> None:
    patches = Patches(collect([twins], weights={key: 5.0}).train)
    odds = dict(zip([g[0].group for g in patches._groups], patches._odds, strict=True))
    assert odds == pytest.approx({"A/images": 1 / 6, "B/images": 5 / 6})


def test_a_path_is_taken_before_the_ends_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "er", 2)
    fill(tmp_path / "er" / "more" / "er", 2)
    monkeypatch.chdir(tmp_path)
    found = collect(["er"], weights={"er": 3.0, "more/er": 2.0})
    assert sorted(weights_by_group(found).values()) == [2.0, 3.0]


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"images": 2.0}, r"'images', which may be A/images or B/images: write more"),
        ({"C/images": 2.0}, r"'C/images', in which no image.*A, A/images, B, B/images, all"),
        ({"B/images": 2.0, "all/B/images": 3.0}, "Two weights name the folder 'B/images'"),
        ({"B": "5"}, "weight '5' of 'B' is not allowed"),
        ({"B": float("nan")}, "weight nan of 'B' is not allowed"),
    ],
)
def test_weights_of_no_one_folder_are_refused(twins: Path, weights, words: str) -> None:
    with pytest.raises(InputError, match=words):
        collect([twins], weights=weights)


def test_small_folders_hold_out_together(tmp_path: Path) -> None:
    """No folder has five files, but there are 24 in all."""
    for group in range(6):
        fill(tmp_path / "set" / f"g{group}", 4)
    found = collect([tmp_path / "set"])
    assert 1 <= len(found.held_out) <= 12
    assert len(found.train) + len(found.held_out) == 24
    held = {source.name for source in found.held_out}
    assert held == {source.name for source in collect([tmp_path / "set"]).held_out}
    assert not any("none held out" in line for line in found.notes())
    assert sum(fact["held_out"] for fact in found.facts().values()) == len(held)


def test_a_folder_that_is_held_out_whole_is_told(tmp_path: Path) -> None:
    for group in range(6):
        fill(tmp_path / "set" / f"g{group}", 1)
    found = collect([tmp_path / "set"])
    gone = found.held_out[0].group
    assert found.facts()[gone]["images"] == 0
    assert any(line.startswith(f"{gone}: 0 images to learn from and 1") for line in found.notes())


def test_few_stacks_hold_out_their_ends(tmp_path: Path) -> None:
    fill(tmp_path / "set", 3, (20, 64, 64))
    found = collect([tmp_path / "set"])
    assert sorted(source.name for source in found.held_out) == [
        f"set/{index}.npy plane {plane}" for index in range(3) for plane in (18, 19)
    ]
    assert len(found.train) == 54


@pytest.mark.parametrize(
    ("files", "shape", "words"),
    [
        (4, (64, 64), "5 files or a stack of 10 planes are needed, and there are 4 files of 1 pl"),
        (3, (9, 64, 64), "there are 3 files of 9 planes at most"),
        (1, (2, 64, 64), "there is one file of 2 planes at most"),
    ],
)
def test_the_reason_why_none_is_held_out(
    tmp_path: Path, files: int, shape: tuple[int, ...], words: str
) -> None:
    folder = fill(tmp_path / "set", files, shape)
    assert any(words in line for line in collect([folder]).notes())
    assert not any("none held out" in line for line in collect([folder], held_out=0.0).notes())


def test_a_file_named_twice_is_not_on_both_sides(tmp_path: Path) -> None:
    folder = fill(tmp_path / "set", 5)
    for more in sorted(folder.glob("*.npy")):
        found = collect([folder, more])
        held = {source.name for source in found.held_out}
        assert held
        assert not held & {source.name for source in found.train}
    stack = fill(tmp_path / "stack", 1, (10, 64, 64))
    found = collect([stack, stack])
    assert {source.name for source in found.held_out} == {"stack/0.npy plane 9"}
    assert "stack/0.npy plane 9" not in {source.name for source in found.train}


def test_an_earlier_split_stays(tmp_path: Path) -> None:
    """Whatever files come or go, and however much of a path tells the folders apart."""
    folder = fill(tmp_path / "A" / "images", 12)
    first = collect([folder], held_out=0.2)
    earlier = {
        "held_out": [source.name for source in first.held_out],
        "learned": [source.name for source in first.train],
    }
    kept = folder / first.held_out[0].name.rpartition("/")[2]
    few = sorted(folder.glob("*.npy"))[:3]
    again = collect([*{kept, *few}], held_out=0.2, earlier=earlier)
    assert f"images/{kept.name}" in {source.name for source in again.held_out}
    twin = fill(tmp_path / "B" / "images", 3)
    both = collect([folder, twin], held_out=0.5, earlier=earlier)
    mine = {source.name for source in both.held_out if source.group == "A/images"}
    assert mine == {f"A/{name}" for name in earlier["held_out"]}


def test_files_that_are_not_read_are_counted(tmp_path: Path) -> None:
    folder = fill(tmp_path / "set", 1)
    for index in range(3):
        PIL.Image.fromarray(grey(index)).save(folder / f"{index}.jpg")
    assert "3 left out: .jpg files, which are not read: export them as TIFF or PNG" in list(
        collect([folder]).notes()
    )
    (folder / "0.npy").unlink()
    with pytest.raises(InputError, match=r"No usable training image in .*\(3 \.jpg files, which"):
        collect([folder])


def test_files_of_the_system_are_passed_over(tmp_path: Path) -> None:
    folder = fill(tmp_path / ".hidden", 1)  # the one that was named may be called as it likes
    (folder / "._0.png").write_bytes(b"\0\5\x16\7")
    fill(folder / ".Trash", 2)
    assert [source.name for source in collect([folder]).train] == [".hidden/0.npy"]


def test_how_opaque_a_grey_image_is_does_not_count(tmp_path: Path) -> None:
    picture = np.stack([grey(0), np.full((64, 64), 255, np.uint8)], axis=-1)
    PIL.Image.fromarray(picture, "LA").save(tmp_path / "grey.png")
    colour = np.concatenate([grey(1, (64, 64, 3)), picture[..., 1:]], axis=-1)
    PIL.Image.fromarray(colour, "RGBA").save(tmp_path / "rgba.png")
    found = collect([tmp_path])
    np.testing.assert_array_equal(found.train[0].pixels, picture[..., 0])
    np.testing.assert_allclose(found.train[1].pixels, colour[..., :3].mean(axis=-1), rtol=1e-6)
    assert found.colour.total() == 1
