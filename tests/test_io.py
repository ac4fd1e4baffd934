"""Reading files: formats, calibration, damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile

from napari_dps.errors import InputError
from napari_dps.io import read_image
from napari_dps.run import Run

RNG = np.random.default_rng(0)
FRAME = RNG.integers(0, 60000, (32, 40)).astype(np.uint16)
# Not 3 or 4 frames: tifffile would write those as colour.
STACK = RNG.integers(0, 60000, (6, 32, 40)).astype(np.uint16)


def test_plain_tiff(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "cells.tif", FRAME)
    image = read_image(tmp_path / "cells.tif")
    np.testing.assert_array_equal(image.data, FRAME)
    assert image.data.dtype == np.uint16
    assert (image.axes, image.name, image.calibration) == ("YX", "cells", "none")
    assert image.scale == (1.0, 1.0)
    assert image.path == str(tmp_path / "cells.tif")


def test_numbers_that_are_names_of_colours_are_refused_and_maps_of_light_are_not(
    tmp_path: Path,
) -> None:
    ramp = np.arange(256, dtype=np.uint16) * 257
    frame = (FRAME >> 8).astype(np.uint8)
    zero = np.zeros_like(ramp)
    shuffled = RNG.permuted(np.stack([ramp] * 3), axis=1)
    for name, colours in (("green", [zero, ramp, zero]), ("inverted", [ramp[::-1]] * 3)):
        tifffile.imwrite(
            tmp_path / f"{name}.tif", frame, photometric="palette", colormap=np.stack(colours)
        )
        np.testing.assert_array_equal(read_image(tmp_path / f"{name}.tif").data, frame)
    tifffile.imwrite(tmp_path / "gif.tif", frame, photometric="palette", colormap=shuffled)
    with pytest.raises(InputError, match="names of colours"):
        read_image(tmp_path / "gif.tif")
    tifffile.imwrite(tmp_path / "fax.tif", frame, photometric="miniswhite")
    fax = read_image(tmp_path / "fax.tif")
    np.testing.assert_array_equal(fax.data, frame)
    told = Run(fax, {"noise": "poisson", "sampler": "wiener"}, device="cpu").warnings
    assert sum("zero is white" in text for text in told) == 1
    told = Run(FRAME, {"noise": "poisson", "sampler": "wiener"}, device="cpu").warnings
    assert not any("white" in text for text in told)


def test_plain_stack_is_taken_for_z_and_says_so(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK)
    image = read_image(tmp_path / "a.tif")
    assert image.axes == "ZYX"
    assert image.metadata["axes_guessed"]
    assert read_image(tmp_path / "a.tif", axes="TYX").axes == "TYX"
    assert "axes_guessed" not in read_image(tmp_path / "a.tif", axes="tyx").metadata


@pytest.mark.parametrize(
    ("unit", "per_pixel", "size"),
    [("CENTIMETER", 1e5, 0.1), ("INCH", 254000, 0.1), ("CENTIMETER", 10**7, 0.001)],
)
def test_resolution_tags_of_a_microscope(
    tmp_path: Path, unit: str, per_pixel: float, size: float
) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", FRAME, resolution=(per_pixel, per_pixel / 2), resolutionunit=unit
    )
    image = read_image(tmp_path / "a.tif")
    assert image.scale == pytest.approx((2 * size, size))
    assert image.units == ("micrometer", "micrometer")
    assert image.calibration == "file"


@pytest.mark.parametrize(
    "resolution",
    [(72, 72, "INCH"), (96, 96, "INCH"), (300, 300, "INCH"), (28.346, 28.346, "CENTIMETER"),
     (118.11, 118.11, "CENTIMETER"), (1, 1, "CENTIMETER"), (1e5, 1e5, "NONE"), (0, 0, "INCH")],
)  # fmt: skip
def test_resolution_of_screens_and_printers_is_no_calibration(
    tmp_path: Path, resolution: tuple[float, float, str]
) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", FRAME, resolution=resolution[:2], resolutionunit=resolution[2]
    )
    image = read_image(tmp_path / "a.tif")
    assert (image.calibration, image.units) == ("none", ("pixel", "pixel"))


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("um", 1), ("micron", 1), ("\\u00B5m", 1), ("nm", 1e-3), ("mm", 1e3), ("cm", 1e4)],
)
def test_imagej(tmp_path: Path, unit: str, factor: float) -> None:
    data = STACK.reshape(2, 3, 32, 40)
    tifffile.imwrite(
        tmp_path / "a.tif", data, imagej=True, resolution=(10, 5),
        metadata={"axes": "TZYX", "unit": unit, "spacing": 0.3, "finterval": 2.5},
    )  # fmt: skip
    image = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.data, data)
    assert image.axes == "TZYX"
    assert image.scale == pytest.approx((2.5, 0.3 * factor, 0.2 * factor, 0.1 * factor))
    assert image.units == ("second", "micrometer", "micrometer", "micrometer")
    assert image.calibration == "file"


def test_imagej_without_calibration(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", STACK, imagej=True, resolution=(72, 72), metadata={"unit": "inch"}
    )
    image = read_image(tmp_path / "a.tif")
    assert (image.calibration, image.scale) == ("none", (1, 1, 1))
    tifffile.imwrite(tmp_path / "b.tif", STACK, imagej=True, metadata={"unit": "pixel"})
    assert read_image(tmp_path / "b.tif").calibration == "none"


def test_imagej_origin_is_a_position(tmp_path: Path) -> None:
    info = {"unit": "um", "xorigin": 10.0, "yorigin": 4.0}
    tifffile.imwrite(tmp_path / "a.tif", FRAME, imagej=True, resolution=(10, 10), metadata=info)
    assert read_image(tmp_path / "a.tif").translate == pytest.approx((-0.4, -1.0))


def test_ome_tiff(tmp_path: Path) -> None:
    data = STACK.reshape(2, 1, 3, 32, 40)
    n = 6
    tifffile.imwrite(
        tmp_path / "nuclei.ome.tif", data, ome=True, photometric="minisblack",
        metadata={
            "axes": "TCZYX",
            "PhysicalSizeX": 65.0, "PhysicalSizeXUnit": "nm",
            "PhysicalSizeY": 0.065, "PhysicalSizeYUnit": "µm",
            "PhysicalSizeZ": 0.0002, "PhysicalSizeZUnit": "mm",
            "TimeIncrement": 500.0, "TimeIncrementUnit": "ms",
            "Plane": {"PositionX": [1.5] * n, "PositionXUnit": ["µm"] * n,
                      "PositionY": [9.0] * n, "PositionYUnit": ["reference frame"] * n},
        },
    )  # fmt: skip
    image = read_image(tmp_path / "nuclei.ome.tif")
    assert (image.axes, image.shape, image.name) == ("TZYX", (2, 3, 32, 40), "nuclei")
    assert image.scale == pytest.approx((0.5, 0.2, 0.065, 0.065))
    assert image.units == ("second", "micrometer", "micrometer", "micrometer")
    assert image.translate == (0, 0, 0, 1.5)
    np.testing.assert_array_equal(image.data, data[:, 0])


def test_given_pixel_size_wins(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", FRAME, resolution=(1e5, 1e5), resolutionunit="CENTIMETER")
    image = read_image(tmp_path / "a.tif", pixel_size=0.25)
    assert (image.pixel_size_yx, image.calibration) == ((0.25, 0.25), "given")


def test_axes_of_length_one_go(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", STACK[None, :, None])
    for axes in (None, "TZCYX", "ZYX"):
        image = read_image(tmp_path / "a.npy", axes=axes)
        assert (image.axes, image.shape) == ("ZYX", (6, 32, 40))
    np.save(tmp_path / "line.npy", FRAME[:1])
    assert read_image(tmp_path / "line.npy").shape == (1, 40)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colour_is_kept_as_axis_s(tmp_path: Path, planar: str) -> None:
    data = RNG.integers(0, 255, (32, 40, 3)).astype(np.uint8)
    stored = data if planar == "contig" else np.moveaxis(data, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar)
    image = read_image(tmp_path / "a.tif")
    assert image.axes == "YXS"
    np.testing.assert_array_equal(image.data, data)
    if planar == "contig":
        assert read_image(tmp_path / "a.tif", axes="YXC").frame_count == 3


def test_compressed_and_multipage(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, compression="zlib")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").data, STACK)
    with tifffile.TiffWriter(tmp_path / "b.tif", bigtiff=True, byteorder=">") as file:
        for frame in STACK:
            file.write(frame, contiguous=False, metadata=None)
    image = read_image(tmp_path / "b.tif")
    np.testing.assert_array_equal(image.data, STACK)
    assert image.data.dtype.isnative


def test_png(tmp_path: Path) -> None:
    PIL.Image.fromarray(FRAME).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image.data, FRAME)
    assert (image.axes, image.data.dtype) == ("YX", np.uint16)
    PIL.Image.fromarray((FRAME // 256).astype(np.uint8)).save(tmp_path / "b.png")
    assert read_image(tmp_path / "b.png").data.dtype == np.uint8
    PIL.Image.fromarray(np.zeros((8, 9, 4), np.uint8)).save(tmp_path / "c.png")
    assert read_image(tmp_path / "c.png").axes == "YXS"
    PIL.Image.fromarray((FRAME // 256).astype(np.uint8)).convert("P").save(tmp_path / "d.png")
    assert read_image(tmp_path / "d.png").axes == "YXS"


def test_nan_is_left_for_later(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((4, 4), np.nan))
    assert np.isnan(read_image(tmp_path / "a.npy").data).all()


def _writers() -> dict[str, object]:
    def pages(path: Path) -> None:
        with tifffile.TiffWriter(path) as file:
            for frame in STACK:
                file.write(frame, contiguous=False, metadata=None)

    return {
        "one.tif": lambda p: tifffile.imwrite(p, FRAME),
        "plain.tif": lambda p: tifffile.imwrite(p, STACK),
        "imagej.tif": lambda p: tifffile.imwrite(p, STACK, imagej=True),
        "zlib.tif": lambda p: tifffile.imwrite(p, STACK, compression="zlib"),
        "big.ome.tif": lambda p: tifffile.imwrite(p, STACK, metadata={"axes": "TYX"}),
        "pages.tif": pages,
        "a.png": lambda p: PIL.Image.fromarray(FRAME).save(p),
        "a.npy": lambda p: np.save(p, STACK),
    }


@pytest.mark.parametrize("name", list(_writers()))
@pytest.mark.parametrize("part", [0.99, 0.9, 0.6, 0.3, 0.05, 0.01, 0.0])
def test_truncated_file(tmp_path: Path, name: str, part: float) -> None:
    path = tmp_path / name
    _writers()[name](path)  # type: ignore[operator]
    content = path.read_bytes()
    read_image(path)
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(InputError) as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_damage_log_is_not_left_behind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import logging

    before = list(logging.getLogger("tifffile").filters)
    test_truncated_file(tmp_path, "imagej.tif", 0.6)
    assert logging.getLogger("tifffile").filters == before
    assert not caplog.records


def _bad(tmp_path: Path) -> dict[str, Path]:
    paths = {
        "no file": tmp_path / "missing.tif",
        "is a folder": tmp_path,
        "not a TIFF": tmp_path / "text.tif",
        "not a PNG": tmp_path / "text.png",
        "no .npy": tmp_path / "text.npy",
        "empty file": tmp_path / "nothing.tif",
        "cannot be read; use": tmp_path / "a.czi",
        "complex": tmp_path / "complex.npy",
        "needs integer": tmp_path / "words.npy",
        "never loaded": tmp_path / "objects.npy",
        "is empty": tmp_path / "empty.npy",
        "1 axes": tmp_path / "line.npy",
        "no result": tmp_path / "other.zarr",
    }
    for name in ("text.tif", "text.png", "text.npy", "a.czi"):
        (tmp_path / name).write_text("Not an image at all.")
    (tmp_path / "nothing.tif").touch()
    (tmp_path / "other.zarr").mkdir()
    np.save(tmp_path / "complex.npy", FRAME.astype(complex))
    np.save(tmp_path / "words.npy", np.array([["a", "b"], ["c", "d"]]))
    np.save(tmp_path / "objects.npy", np.array([[{}, None]]), allow_pickle=True)
    np.save(tmp_path / "empty.npy", np.zeros((0, 4)))
    np.save(tmp_path / "line.npy", np.zeros(4))
    return paths


@pytest.mark.parametrize("words", [
    "no file", "is a folder", "not a TIFF", "not a PNG", "no .npy", "empty file",
    "cannot be read; use", "complex", "needs integer", "never loaded", "is empty", "1 axes",
    "no result",
])  # fmt: skip
def test_bad_file_is_one_sentence(tmp_path: Path, words: str) -> None:
    path = _bad(tmp_path)[words]
    with pytest.raises(InputError, match=words) as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("axes", ["YX", "ABC", "ZZX", "TZYX", "TZX"])
def test_wrong_axes(tmp_path: Path, axes: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK)
    with pytest.raises(InputError, match="axes"):
        read_image(tmp_path / "a.tif", axes=axes)


def test_axes_must_be_a_string(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK)
    with pytest.raises(InputError, match="a string such as"):
        read_image(tmp_path / "a.tif", axes=("T", "Y", "X"))  # type: ignore[arg-type]


def test_axes_mend_a_stack_that_was_written_as_colour(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK[:3], photometric="rgb", planarconfig="separate")
    assert read_image(tmp_path / "a.tif").is_rgb
    image = read_image(tmp_path / "a.tif", axes="ZYX")
    np.testing.assert_array_equal(image.data, STACK[:3])


def test_missing_part_of_a_set(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK, metadata={"axes": "TYX"})
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        xml = file.ome_metadata
    assert xml is not None
    uuid = "urn:uuid:00000000-0000-0000-0000-000000000001"
    here = xml.split('UUID="')[1].split('"')[0]
    data = "".join(
        f'<TiffData IFD="0" FirstT="{t}" PlaneCount="3"><UUID FileName="{f}">{u}</UUID></TiffData>'
        for t, f, u in ((0, "a.ome.tif", here), (3, "b.ome.tif", uuid))
    )
    xml = xml.replace('<TiffData IFD="0" PlaneCount="6"/>', data)
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        STACK[:3],
        photometric="minisblack",
        description=xml.encode(),
        metadata=None,
        ome=False,
    )
    with pytest.raises(InputError, match="other files"):
        read_image(tmp_path / "a.ome.tif")
