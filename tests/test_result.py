"""Result: summaries, and what survives on disk."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_dps.errors import InputError, RecipeError
from napari_dps.image import Image
from napari_dps.io import read_image
from napari_dps.result import Result, samples_needed

RNG = np.random.default_rng(1)


@dataclass
class FakeRecipe:
    """Stands in for Recipe: a result needs no more of it than these two methods."""

    fields: dict[str, Any] = field(default_factory=dict)

    def to_json(self, folder: Path | None = None) -> str:
        if "mask" in self.fields and folder is not None:
            np.save(folder / "mask.npy", np.ones(2))
        return json.dumps(self.fields, indent=2)

    @classmethod
    def from_json(cls, text: str, folder: Path | None = None) -> FakeRecipe:
        fields = json.loads(text)
        if "plugin" in fields:
            raise RecipeError("there is no forward model of this kind")
        return cls(fields)


@pytest.fixture(autouse=True)
def _fake_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_dps.recipe.Recipe", FakeRecipe)


def _result(axes: str = "YX", count: int = 5, **options: object) -> Result:
    sizes = {"T": 2, "C": 3, "Z": 4, "Y": 6, "X": 7}
    units = {"T": "second", "C": "pixel", "Z": "micrometer", "Y": "micrometer", "X": "micrometer"}
    shape = tuple(sizes[a] for a in axes)
    return Result(
        RNG.normal(100, 10, (count, *shape)).astype(np.float32),
        axes,
        scale=[0.1 + i for i in range(len(axes))],
        units=[units[a] for a in axes],
        translate=[0.25 * i for i in range(len(axes))],
        name='α "cells" <1> & {x}',
        **options,  # type: ignore[arg-type]
    )


def _same(a: Result, b: Result) -> None:
    for key in ("samples", "mean", "std"):
        assert getattr(a, key).dtype == np.float32
        np.testing.assert_array_equal(getattr(a, key), getattr(b, key))
    for key in ("axes", "shape", "scale", "units", "translate", "name", "report", "recipe"):
        assert getattr(a, key) == getattr(b, key), key


def test_mean_and_std() -> None:
    result = _result(count=7)
    exact = result.samples.astype(np.float64)
    np.testing.assert_array_equal(result.mean, exact.mean(0).astype(np.float32))
    np.testing.assert_allclose(result.std, exact.std(0, ddof=1), rtol=1e-6)
    assert not Result(np.ones((1, 4, 4))).std.any()


def test_std_far_from_zero_keeps_its_digits() -> None:
    samples = 60000 + RNG.normal(0, 0.5, (20, 8, 8)).astype(np.float32)
    exact = samples.astype(np.float64).std(0, ddof=1)
    np.testing.assert_allclose(Result(samples).std, exact, rtol=1e-6)


@pytest.mark.parametrize(
    ("level", "needed"), [(0.9, 19), (0.8, 9), (0.5, 3), (0.95, 39), (0.99, 199), (0.6, 4)]
)
def test_samples_for_an_interval(level: float, needed: int) -> None:
    assert samples_needed(level) == needed
    draws = RNG.normal(size=(needed, 2, 3)).astype(np.float32)
    low, high = Result(draws).interval(level)
    assert low.dtype == high.dtype == np.float32
    assert low.shape == (2, 3)
    if needed != 4:
        np.testing.assert_array_equal(low, draws.min(0))
        np.testing.assert_array_equal(high, draws.max(0))
    with pytest.raises(InputError, match=f"at least {needed} samples"):
        Result(draws[1:]).interval(level)


def test_interval_covers_what_it_says() -> None:
    draws = RNG.normal(size=(19, 200, 200)).astype(np.float32)
    low, high = Result(draws).interval(0.9)
    truth = RNG.normal(size=(200, 200))
    assert np.mean((truth >= low) & (truth <= high)) == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("q", [0.1, 0.25, 0.5, 0.77, 0.9])
def test_quantile_is_weibulls(q: float) -> None:
    result = _result(count=11)
    expected = np.quantile(result.samples.astype(np.float64), q, axis=0, method="weibull")
    np.testing.assert_allclose(result.quantile(q), expected, rtol=1e-6)


def test_quantile_refuses_what_it_cannot_know() -> None:
    result = _result(count=10)
    with pytest.raises(InputError, match="at least 19 samples"):
        result.quantile(0.05)
    with pytest.raises(InputError, match="at least 99 samples"):
        result.quantile(0.99)
    with pytest.raises(InputError, match="infinitely"):
        result.quantile(0.0)
    for q in (-0.1, 1.1, float("nan"), [0.5], "a"):
        with pytest.raises(InputError, match="between 0 and 1"):
            result.quantile(q)
    for level in (0.0, 1.0, 90, "a"):
        with pytest.raises(InputError, match="between 0 and 1"):
            result.interval(level)
    one = Result(np.full((1, 3, 3), 2.0))
    np.testing.assert_array_equal(one.quantile(0.5), one.mean)


def test_diverged_pixels_stay_visible() -> None:
    samples = RNG.normal(size=(19, 3, 3))
    samples[4, 1, 1] = np.nan
    low, high = Result(samples).interval(0.9)
    assert np.isnan(low[1, 1])
    assert np.isnan(high[1, 1])
    assert np.isnan(low).sum() == 1


def test_report_is_plain() -> None:
    report = {
        "chi2": np.float32(0.5), "calls": np.int64(3), "ok": np.bool_(True), "list": (1, 2),
        "array": np.arange(2), "nan": float("nan"), "path": Path("a"), "deep": {"x": np.float64(1)},
    }  # fmt: skip
    result = _result(report=report)
    assert result.report == {
        "chi2": 0.5, "calls": 3, "ok": True, "list": [1, 2], "array": [0, 1], "nan": None,
        "path": "a", "deep": {"x": 1.0}, "complete": True,
    }  # fmt: skip
    assert json.loads(json.dumps(result.report)) == result.report
    assert result.complete
    assert not result.point_estimate
    assert not _result(report={"complete": False}).complete
    with pytest.raises(InputError, match=r"report\.what holds a object"):
        _result(report={"what": object()})


def test_from_image_takes_its_coordinates() -> None:
    image = Image.from_array(np.zeros((4, 5), np.uint8), pixel_size=0.2, name="a")
    result = Result.from_image(np.zeros((3, 4, 5)), image)
    assert (result.axes, result.scale, result.units, result.name, len(result)) == (
        "YX", (0.2, 0.2), ("micrometer",) * 2, "a", 3,
    )  # fmt: skip


AXES = ("YX", "TYX", "ZYX", "CYX", "TZYX", "ZTYX", "CZYX", "TCZYX", "ZCTYX", "YXC", "TYXZC")


@pytest.mark.parametrize("suffix", ["ome.tif", "ome.zarr"])
@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("axes", AXES)
def test_round_trip(tmp_path: Path, axes: str, count: int, suffix: str) -> None:
    if suffix == "ome.zarr":
        pytest.importorskip("yaozarrs")
        pytest.importorskip("zarr")
    recipe = FakeRecipe({"samples": count, "seed": 3, "text": "µ <&>"})
    result = _result(axes, count, recipe=recipe, report={"chi2": 0.1 + 0.2, "text": "µ <&> \"'"})
    path = result.save(tmp_path / "new" / "folder" / f"r.{suffix}")
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    _same(Result.load(path), result)


def test_what_other_readers_see(tmp_path: Path) -> None:
    result = _result("TZYX", 3)
    path = result.save(tmp_path / "r.ome.tif")
    with tifffile.TiffFile(path) as file:
        assert [(s.name, s.axes, s.shape) for s in file.series] == [
            ("mean", "TZYX", (2, 4, 6, 7)),
            ("std", "TZYX", (2, 4, 6, 7)),
            ("samples", "QTZYX", (3, 2, 4, 6, 7)),
        ]
        np.testing.assert_array_equal(file.series[2].asarray(), result.samples)
        assert {page.compression for page in file.pages} == {1}
    np.testing.assert_array_equal(tifffile.imread(path), result.mean)


def test_samples_of_one_picture(tmp_path: Path) -> None:
    path = _result("YX", 4).save(tmp_path / "r.tif")
    with tifffile.TiffFile(path) as file:
        assert [(s.name, s.axes) for s in file.series] == [
            ("mean", "YX"), ("std", "YX"), ("samples", "QYX"),
        ]  # fmt: skip


def test_ome_types_reads_it(tmp_path: Path) -> None:
    ome_types = pytest.importorskip("ome_types")
    recipe = FakeRecipe({"seed": 7})
    result = _result("TZYX", 3, recipe=recipe, report={"chi2": 1.25})
    ome = ome_types.from_tiff(result.save(tmp_path / "r.ome.tif"))
    assert [image.name for image in ome.images] == ["mean", "std", "samples"]
    pixels = ome.images[0].pixels
    assert pixels.physical_size_x == result.scale[3]
    assert pixels.physical_size_x_unit.value == "µm"
    assert pixels.time_increment == result.scale[0]
    z = {plane.the_z: plane.position_z for plane in pixels.planes if plane.the_t == 0}
    assert z == {k: 0.25 + k * 1.1 for k in range(4)}
    notes = [a for a in ome.structured_annotations if a.namespace == "napari-dps/result"]
    assert len(notes) == 1
    stored = dict(notes[0].value)
    assert json.loads(stored["report"])["chi2"] == 1.25
    assert json.loads(stored["recipe"])["seed"] == 7


def test_napari_opens_the_mean(tmp_path: Path) -> None:
    reader = pytest.importorskip("napari_builtins.io")
    result = _result("YX", 3)
    path = str(result.save(tmp_path / "r.ome.tif"))
    layers = reader.napari_get_reader(path)(path)
    assert len(layers) == 1
    np.testing.assert_array_equal(layers[0][0], result.mean)


@pytest.mark.parametrize("axes", ["YX", "TZYX", "TCZYX"])
def test_zarr_is_valid(tmp_path: Path, axes: str) -> None:
    yaozarrs = pytest.importorskip("yaozarrs")
    pytest.importorskip("zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = _result(axes, 3).save(tmp_path / "r.ome.zarr")
        for name in ("", "mean", "std", "samples"):
            yaozarrs.validate_zarr_store(str(path / name))
    if axes == "YX":
        ome = json.loads((path / "samples" / "zarr.json").read_text())["attributes"]["ome"]
        assert [a["name"] for a in ome["multiscales"][0]["axes"]] == ["sample", "y", "x"]
        assert ome["multiscales"][0]["axes"][1]["unit"] == "micrometer"


@pytest.mark.parametrize("suffix", ["ome.tif", "zarr"])
def test_read_image_gives_the_mean(tmp_path: Path, suffix: str) -> None:
    if suffix == "zarr":
        pytest.importorskip("yaozarrs")
    result = _result("TYX")
    image = read_image(result.save(tmp_path / f"cells.{suffix}"))
    np.testing.assert_array_equal(image.data, result.mean)
    assert (image.axes, image.scale, image.units, image.translate) == (
        result.axes, result.scale, result.units, result.translate,
    )  # fmt: skip
    assert (image.name, image.calibration) == ("cells", "file")


@pytest.mark.parametrize("suffix", ["tif", "zarr"])
def test_a_part_can_be_saved(tmp_path: Path, suffix: str) -> None:
    if suffix == "zarr":
        pytest.importorskip("yaozarrs")
    result = _result(count=20)
    path = result.save(tmp_path / f"r.{suffix}", write=("std", "mean"))
    loaded = Result.load(path)
    np.testing.assert_array_equal(loaded.mean, result.mean)
    np.testing.assert_array_equal(loaded.std, result.std)
    assert len(loaded) == 20
    with pytest.raises(InputError, match=r"saved without 'samples'"):
        _ = loaded.samples
    with pytest.raises(InputError, match=r"saved without 'samples'"):
        loaded.interval(0.9)
    loaded.save(tmp_path / f"again.{suffix}", write="mean")
    with pytest.raises(InputError, match="saved without 'std'"):
        _ = Result.load(tmp_path / f"again.{suffix}").std
    result.save(path, write=["samples"])
    _same(Result.load(path), result)
    with pytest.raises(InputError, match="saved without 'mean'"):
        read_image(path)


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("r.png", ("mean",), "ends in '.png'"),
        ("r", ("mean",), "ends in ''"),
        ("r.tif", ("median",), "median"),
        ("r.tif", (), "at least one"),
        ("folder.tif", ("mean",), "is a folder"),
        ("folder.zarr", ("mean",), "no Zarr group"),
        ("file/r.tif", ("mean",), "cannot be written"),
    ],
)
def test_bad_target(tmp_path: Path, name: str, write: tuple[str, ...], words: str) -> None:
    if name.endswith("zarr"):
        pytest.importorskip("yaozarrs")
    (tmp_path / "folder.tif").mkdir()
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "file").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=words):
        _result().save(tmp_path / name, write=write)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("suffix", ["tif", "zarr"])
def test_failure_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, suffix: str
) -> None:
    if suffix == "zarr":
        pytest.importorskip("yaozarrs")
    old = _result(count=2)
    path = old.save(tmp_path / f"r.{suffix}")
    from napari_dps import _resultfile

    good = getattr(_resultfile, "_write_zarr" if suffix == "zarr" else "_write_tiff")

    def half(*arguments: object) -> None:
        good(*arguments)
        raise error

    monkeypatch.setattr(_resultfile, f"_write_{'zarr' if suffix == 'zarr' else 'tiff'}", half)
    expected = InputError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        _result(count=3).save(path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    _same(Result.load(path), old)


def test_overwriting(tmp_path: Path) -> None:
    for suffix in ("tif", "zarr") if _has_zarr() else ("tif",):
        path = tmp_path / f"r.{suffix}"
        _result(count=2).save(path)
        new = _result(count=3)
        new.save(path)
        _same(Result.load(path), new)
    assert len(list(tmp_path.iterdir())) <= 2


def _has_zarr() -> bool:
    import importlib.util

    return all(importlib.util.find_spec(name) for name in ("yaozarrs", "zarr"))


def test_zarr_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install "napari-dps\[zarr\]"'):
        _result().save(tmp_path / "r.zarr")
    assert not list(tmp_path.iterdir())


def test_loading_what_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        Result.load(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError, match="no result"):
        Result.load(tmp_path / "a.tif")
    (tmp_path / "b.tif").write_text("hello")
    with pytest.raises(InputError, match="no result"):
        Result.load(tmp_path / "b.tif")
    path = _result().save(tmp_path / "c.tif")
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(InputError, match="truncated"):
        Result.load(path)


def test_unknown_recipe_does_not_hide_the_pictures(tmp_path: Path) -> None:
    foreign = {"plugin": "not here", "seed": 1}
    result = _result(recipe=foreign)
    path = result.save(tmp_path / "r.tif")
    with pytest.warns(UserWarning, match="kept as a dict"):
        loaded = Result.load(path)
    assert loaded.recipe == foreign
    np.testing.assert_array_equal(loaded.samples, result.samples)


def test_arrays_of_the_recipe_go_beside(tmp_path: Path) -> None:
    _result(recipe=FakeRecipe({"mask": True})).save(tmp_path / "out" / "r.tif")
    assert (tmp_path / "out" / "mask.npy").exists()


def test_bad_parts() -> None:
    with pytest.raises(InputError, match="one sample at least"):
        Result(np.zeros((0, 4, 4)))
    with pytest.raises(InputError, match="one sample at least"):
        Result(np.zeros((4, 4)))
    with pytest.raises(InputError, match="real numbers"):
        Result(np.zeros((2, 4, 4), complex))
    with pytest.raises(InputError, match="axes"):
        Result(np.zeros((2, 4, 4)), "TYX")
    with pytest.raises(InputError, match="colour"):
        Result(np.zeros((2, 4, 4, 3)), "YXS")
