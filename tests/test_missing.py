"""Missing and saturated pixels: boxes, NaN, full detectors."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_dps import calibrate, simulate
from napari_dps.components import make
from napari_dps.errors import InputError, RecipeError
from napari_dps.grid import Grid
from napari_dps.image import Image
from napari_dps.prepare import prepare
from napari_dps.recipe import Recipe
from napari_dps.run import Run
from napari_dps.saturation import full_scale


def counts(rng, level=60000.0, dtype=np.uint16):
    return rng.poisson(level * rng.uniform(0, 1, (40, 40))).astype(dtype)


def test_boxes_are_lost():
    for box in ([2, 3, 5, 9], [[2, 3, 5, 9]], np.array([2, 3, 5, 9])):
        model = make("forward", {"kind": "inpaint", "box": box})
        known = model.known((12, 10))
        assert not known[2:5, 3:9].any() and known.sum() == 120 - 18
    model = make("forward", {"kind": "inpaint", "box": [[0, 0, 2, 2], [4, 4, 6, 6]]})
    assert model.bind(Grid((12, 10))).measured.sum() == 112
    assert Recipe(**Recipe(forward=model).model_dump(mode="json")).forward == model


@pytest.mark.parametrize(
    ("box", "word"),
    [
        ([1, 2, 3], "y0, x0, y1, x1"),
        ([5, 0, 2, 4], "y0 below y1"),
        ([0, 0, 2.5, 4], "whole pixels"),
        ("all", "whole pixels"),
        ([-1, 0, 2, 4], "none negative"),
    ],
)
def test_bad_boxes_are_one_sentence(box, word):
    with pytest.raises(RecipeError, match=word):
        make("forward", {"kind": "inpaint", "box": box})


def test_boxes_beyond_the_image_are_refused():
    with pytest.raises(InputError, match="leaves the image of 12 x 10"):
        make("forward", {"kind": "inpaint", "box": [0, 0, 13, 4]}).bind(Grid((12, 10)))
    with pytest.raises(InputError, match="leave no pixel"):
        make("forward", {"kind": "inpaint", "box": [0, 0, 12, 10]}).bind(Grid((12, 10)))


def test_mask_boxes_nan_and_saturation_add_up(rng):
    frames = rng.uniform(10, 50, (1, 12, 10))
    frames[0, 0, 0], frames[0, 1, 1:6] = np.nan, 255
    mask = np.ones((12, 10))
    mask[11] = 0
    model = make(
        "forward", {"kind": "inpaint", "mask": mask, "box": [4, 4, 6, 6], "saturated": True}
    )
    measured = model.measured_pixels(frames)[0]
    assert not measured[0, 0] and not measured[11].any() and not measured[4:6, 4:6].any()
    assert not measured[1, 1:6].any() and measured.sum() == 120 - 1 - 10 - 4 - 5


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_a_plateau_at_the_end_of_the_scale_is_found(rng, bits):
    top = 2**bits - 1
    image = np.minimum(counts(rng, 1.3 * top, np.int64), top).astype(np.uint16)
    assert full_scale(image) == top
    assert full_scale(image.astype(np.float32)) == top


def test_no_plateau_no_saturation(rng):
    image = np.minimum(counts(rng, 3000.0), 4094)
    assert full_scale(image) is None
    image[3, 3] = 4095  # the largest by chance
    assert full_scale(image) is None
    assert full_scale(np.zeros((9, 9), bool)) is None
    assert full_scale(np.full((9, 9), np.nan)) is None
    assert full_scale(np.array([[1, 255]], np.uint8)) == 255


def test_saturated_pixels_do_not_count_where_counts_are_expected(rng):
    data = np.minimum(counts(rng, 5500.0), 4095)
    full = data == 4095
    image = Image.from_array(data)
    prepared = prepare(image, Recipe())
    assert np.array_equal(prepared.valid[0], ~full)
    assert prepared.saturated == {"pixels": full.sum(), "value": 4095, "left_out": True}
    assert "4095" in prepared.warnings[0] and "left out" in prepared.warnings[0]
    kept = prepare(image, Recipe(noise={"kind": "gaussian", "sigma": 1.0}))
    assert kept.valid is None and not kept.saturated["left_out"]
    assert "count as measured" in kept.warnings[0]
    told = prepare(image, Recipe(forward={"kind": "identity", "full_scale": 4000}))
    assert told.saturated["value"] == 4000 and told.saturated["pixels"] > full.sum()
    off = prepare(image, Recipe(forward={"kind": "identity", "full_scale": 1e6}))
    assert off.valid is None and off.saturated["pixels"] == 0


def test_a_frame_that_is_all_full_is_refused():
    data = np.full((2, 16, 16), 255, np.uint8)
    data[0, :8] = 3
    with pytest.raises(InputError, match="every pixel of a frame is saturated"):
        prepare(Image.from_array(data, axes="TYX"), Recipe())


def stack_and_mask():
    """Return three frames, and a mask in which each lacks other rows."""
    stack = np.random.default_rng(0).poisson(50, (3, 16, 20)).astype(np.float64)
    mask = np.ones(stack.shape)
    for k in range(3):
        mask[k, 4 * k : 4 * k + 4] = 0
    return stack, mask


@pytest.mark.parametrize("axes", ["ZYX", "TYX", "YXT"])
@pytest.mark.parametrize("chained", [False, True])
def test_a_mask_may_have_the_shape_of_a_whole_stack(axes, chained):
    stack, mask = stack_and_mask()
    order = ["TYX".index(letter) for letter in axes.replace("Z", "T")]
    lost = {"kind": "inpaint", "mask": mask.transpose(order)}
    blur = {"kind": "gaussian-blur", "sigma": 0.5}
    forward = {"kind": "compose", "steps": [blur, lost]} if chained else lost
    job = Run(stack.transpose(order), {"forward": forward, "prior": "gaussian"}, axes=axes)
    job._bind()
    assert np.array_equal(job._problem.valid[:, 0].numpy(), mask != 0)
    assert job._problem.operator.operator.measured is None


def test_a_mask_of_one_plane_holds_for_every_plane_of_a_volume():
    _, mask = stack_and_mask()
    model = make("forward", {"kind": "inpaint", "mask": mask[0]})
    assert np.array_equal(model.bind(Grid((2, 16, 20))).measured.numpy(), [mask[0] != 0] * 2)


@pytest.mark.parametrize("axes", ["TYX", "YXT"])
def test_frames_are_simulated_with_masks_of_their_own(axes):
    stack, mask = stack_and_mask()
    mask[2] = 1  # a frame may lack nothing
    order = ["TYX".index(letter) for letter in axes]
    lost = {"kind": "inpaint", "mask": mask.transpose(order)}
    y = simulate(1 + stack.transpose(order), forward=lost, axes=axes)
    assert np.array_equal(y > 0, mask.transpose(order) != 0)
    coarse = {"kind": "inpaint", "mask": mask[:, ::2, ::2].transpose(order)}
    chain = {"kind": "compose", "steps": [{"kind": "downsample", "factor": 2}, coarse]}
    y = simulate(9 + stack.transpose(order), forward=chain, axes=axes)
    assert np.array_equal(y > 0, mask[:, ::2, ::2].transpose(order) != 0)


def test_masks_of_stacks_that_do_not_fit_are_one_sentence():
    stack, mask = stack_and_mask()
    job = {"forward": {"kind": "inpaint", "mask": mask[:2]}, "prior": "gaussian"}
    with pytest.raises(InputError, match=r"shape \(2, 16, 20\), but the frame has \(16, 20\)"):
        Run(stack, job)
    full = {"forward": {"kind": "inpaint", "mask": np.ones(stack.shape)}, "prior": "gaussian"}
    with pytest.raises(InputError, match="nonzero everywhere"):
        Run(stack, full)._bind()
    whole = {"kind": "inpaint", "mask": mask}
    with pytest.raises(InputError, match="here every frame is measured alike: give a mask of one"):
        calibrate({"forward": whole, "prior": "gaussian"}, photons=30, size=16)
    with pytest.raises(InputError, match=r"shape \(2, 16, 20\), but the object has 3 frames"):
        simulate(stack, forward={"kind": "inpaint", "mask": mask[:2]}, axes="TYX")
    for ones, told in ((stack, "nonzero everywhere"), (stack[:, 2:], r"shape \(14, 20\)")):
        with pytest.raises(InputError, match=told):
            simulate(stack, forward={"kind": "inpaint", "mask": np.ones(ones.shape)}, axes="TYX")
    early = {"kind": "compose", "steps": [whole, {"kind": "gaussian-blur"}]}
    with pytest.raises(InputError, match=r"step 1 of compose.*every frame is measured alike"):
        Run(stack, {"forward": early, "prior": "gaussian"})._bind()


def spots(peak, side=64):
    """Return the counts of bright spots on a dark ground."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side]
    places = rng.uniform(8, side - 8, (6, 2))
    light = sum(np.exp(-((rows - a) ** 2 + (columns - b) ** 2) / 18) for a, b in places)
    return rng.poisson(5 + peak * light).astype(np.float64)


CLIPPED = np.minimum(spots(6000.0), 4095)
FULL = {
    "12 bits, shifted up": ((CLIPPED * 16).astype(np.uint16), 65520),
    "fractions": (CLIPPED / 4095, 1.0),
    "fractions in single precision": ((CLIPPED / 4095).astype(np.float32), 1.0),
    "pixels summed": (CLIPPED.reshape(32, 2, 32, 2).sum((1, 3)), 16380),
    "any level": (np.minimum(CLIPPED, 3000).astype(np.uint16), 3000),
    "a level without steps": (np.minimum(spots(60.0) + 0.1 * np.pi * spots(9.0), 40.0), 40.0),
}


@pytest.mark.parametrize("name", FULL)
def test_every_full_scale_is_found_and_left_out(name):
    image, level = FULL[name]
    job = Run(image, {"prior": "gaussian", "noise": "poisson"}, device="cpu")
    full = image >= level
    told = job._prepared.saturated
    assert told == {"pixels": full.sum(), "value": level, "left_out": True}
    assert np.array_equal(job._prepared.valid[0], ~full)
    assert sum("saturated" in words for words in job.warnings) == 1


ROWS, COLUMNS = np.mgrid[:64, :64]
DISC = (np.hypot(ROWS - 30, COLUMNS - 33) < 15).astype(np.float64)
SOFT = gaussian_filter(DISC, 1.5)
FLAT = {
    "mask": DISC,
    "phantom": 4095 * DISC + 800 * (ROWS > 50),
    "disc": 1000 * SOFT + 10,
    "disc of full height": 4095 * SOFT,
    "disc of fractions": SOFT.astype(np.float32),
    "rounded disc": np.round(3000 * SOFT).astype(np.uint16),
    "few photons": np.random.default_rng(0).poisson(4 * DISC),
    "single photons": np.random.default_rng(0).binomial(1, 0.2 + 0.7 * DISC),
    "photons": np.random.default_rng(0).poisson(2 + 200 * DISC),
    "most of the field": 500 * (1 - SOFT),
}


@pytest.mark.parametrize("name", FLAT)
def test_flat_maxima_lose_no_pixel(name):
    image = FLAT[name]
    assert full_scale(image) is None
    job = Run(image, {"prior": "gaussian", "noise": "poisson"}, device="cpu")
    assert job._prepared.valid is None and job._prepared.saturated["pixels"] in (
        0,
        (image == image.max()).sum(),
    )


def test_where_in_doubt_pixels_stay_and_the_report_says_so():
    image = 500 * (1 - SOFT)
    job = Run(image, {"prior": "gaussian", "noise": "poisson"}, device="cpu")
    full = int((image == image.max()).sum())
    assert job._prepared.valid is None
    assert job._prepared.saturated == {"pixels": full, "value": 500.0, "left_out": False}
    assert any("seem to be saturated at 500 and count as measured" in w for w in job.warnings)
    # Whoever says what the full scale is needs no guess.
    forward = {"kind": "identity", "full_scale": 1e6}
    told = Run(image, {"forward": forward, "prior": "gaussian", "noise": "poisson"}, device="cpu")
    assert told._prepared.saturated["pixels"] == 0
    assert not any("saturated" in w for w in told.warnings)
