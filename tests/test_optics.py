"""PSFs of microscopes: against psf-generator, formulas, and each other; warnings; bad input."""

import math

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline
from scipy.special import j1

from napari_dps.components import make
from napari_dps.core.operator import dot_test
from napari_dps.forward._kernel import Microscope, enclosed, find_focus
from napari_dps.forward._optics import (
    Light,
    intensity,
    make_pupil,
    on_axis,
    over_pixels,
    through_pinhole,
)
from napari_dps.forward._wavefront import Objective, rms_error
from napari_dps.grid import Grid

WAVE = 0.52
KINDS = ["widefield", "confocal", "lightsheet"]
GRID2 = Grid((48, 40), (0.06, 0.06), dtype="float64")
GRID3 = Grid((10, 24, 20), (0.15, 0.06, 0.06), dtype="float64")


def objective(na=1.2, sample=1.515, depth=0.0, immersion=1.515):
    cover = (1.5255, 1.5255, 170.0, 170.0)
    return Objective(na, immersion, immersion, 150.0, *cover, sample, depth)


def line(start, stop, count):
    return torch.linspace(start, stop, count, dtype=torch.float64)


def model(kind="widefield", **fields):
    return make("forward", {"kind": kind, **fields})


def width(values, step):
    """Return the full width at half maximum of a profile, to a part of its step."""
    values = np.asarray(values) / np.max(values)
    peak = int(values.argmax())

    def crossing(side):
        k = int(np.argmax(side < 0.5))
        return k - 1 + (side[k - 1] - 0.5) / (side[k - 1] - side[k])

    return step * (crossing(values[peak:]) + crossing(values[: peak + 1][::-1]))


def reference(optics, vectorial, pitch, step, side, planes):
    """Return psf-generator's intensity (planes, side, side) and where its planes lie.

    Its wave number behind the aperture is that of the sample, though its angles are those of the
    immersion: lengths are given to it in units that make up for that. Its defocus thickens the
    immersion, ours moves the focus deeper.
    """
    propagators = pytest.importorskip(
        "psf_generator.propagators", reason="psf-generator is not installed (extra `test`)"
    )
    aberrated = optics.depth > 0
    unit = 1e3 * (optics.immersion_index / optics.sample_index if aberrated else 1)
    fields = {
        "n_pix_pupil": 401, "n_pix_psf": side, "n_defocus": planes, "wavelength": WAVE * 1e3,
        "na": optics.numerical_aperture, "pix_size": pitch * unit * (side - 1) / side,
        "defocus_step": step * unit * (planes - 1) / planes, "apod_factor": True,
        "gibson_lanni": aberrated, "z_p": optics.depth * 1e3, "n_s": optics.sample_index,
        "n_i": optics.immersion_index, "n_i0": optics.immersion_index, "n_g": optics.cover_index,
        "n_g0": optics.cover_index_design, "t_g": optics.cover_thickness * 1e3,
        "t_g0": optics.cover_thickness_design * 1e3, "t_i0": optics.working_distance * 1e3,
    }  # fmt: skip
    if vectorial:
        made = propagators.VectorialSphericalPropagator(e0x=1.0, e0y=0.0, **fields)
    else:
        made = propagators.ScalarSphericalPropagator(**fields)
    values = (made.compute_focus_field().abs() ** 2).sum(1)
    if vectorial:  # unpolarised light: the other polarisation is the first one, turned
        values = values + values.mT
    places = torch.linspace(made.defocus_min, made.defocus_max, planes).double() / unit
    return values.double().numpy(), -places


@pytest.mark.parametrize("vectorial", [False, True])
@pytest.mark.parametrize(
    ("na", "sample", "depth"),
    [(1.4, 1.515, 0), (0.5, 1.515, 0), (1.2, 1.33, 5), (1.2, 1.33, 20), (1.3, 1.33, 10)],
)
def test_agrees_with_psf_generator(vectorial, na, sample, depth):
    optics, pitch, step, side, planes = objective(na, sample, depth), 0.04, 0.2, 41, 31
    expected, z = reference(optics, vectorial, pitch, step, side, planes)
    x = (torch.arange(side) - side // 2).double() * pitch
    radii, where = torch.unique(torch.hypot(x[:, None], x), return_inverse=True)
    pupil = make_pupil(Light(optics, WAVE, vectorial), float(radii[-1]), float(z.abs().max()))
    ours = intensity(pupil, radii, z)[:, where].numpy()
    correlation = (ours * expected).sum() / np.sqrt((ours**2).sum() * (expected**2).sum())
    assert correlation > 0.999999
    best = np.unravel_index(ours.argmax(), ours.shape)
    assert best == np.unravel_index(expected.argmax(), ours.shape)
    assert width(ours[best[0], best[1]], pitch) == pytest.approx(
        width(expected[best[0], best[1]], pitch), rel=1e-3
    )
    if na > 1:  # the lower aperture's depth of field is longer than the stack
        assert width(ours[:, best[1], best[2]], step) == pytest.approx(
            width(expected[:, best[1], best[2]], step), rel=1e-3
        )


@pytest.mark.parametrize(
    ("kind", "sample", "depth"), [("scalar", 1.515, 0), ("vectorial", 1.33, 8)]
)
def test_pixels_and_planes_agree_with_psf_generator(kind, sample, depth):
    """The kernel itself, beside a reference on a grid five times finer that is summed up."""
    fine, side, planes, pitch, step = 5, 21, 9, 0.08, 0.25
    wide = model(
        "widefield", model=kind, numerical_aperture=1.2, sample_index=sample, depth=depth,
        wavelength=1e3 * WAVE, margin=1, crop=0.9999,
    )  # fmt: skip
    ours = wide.kernel(Grid((4, 10, 10), (step, pitch, pitch)))
    assert ours.values.shape == (planes, side, side)
    shift = ours.focus / step
    # Many planes that end where ours do not; the nearest are taken by interpolation.
    dense, z = reference(
        wide.objective(), kind == "vectorial", pitch / fine, step / 2, side * fine, 33
    )
    order = np.argsort(z.numpy())
    binned = dense.reshape(33, side, fine, side, fine).sum((2, 4))[order]
    at = (np.arange(planes) - planes // 2 + shift) * step
    expected = CubicSpline(z.numpy()[order], binned)(at)
    expected /= expected.sum()
    assert (
        np.abs(ours.values - expected).max() < 5e-3 * expected.max()
    )  # the sum of fine pixels is that good


def test_airy_disc_and_axial_sinc():
    pupil = make_pupil(Light(objective(0.1), 0.5, False), 10, 300)
    r, z = line(0, 10, 101), line(-300, 300, 101)
    v = 2 * np.pi / 0.5 * 0.1 * r.numpy()[1:]
    across = intensity(pupil, r, torch.zeros(1, dtype=torch.float64))[0]
    assert np.abs(across[1:] / across[0] - (2 * j1(v) / v) ** 2).max() < 2e-4
    u = 2 * np.pi / 0.5 * 0.1**2 / 1.515 * z.numpy()
    along = on_axis(pupil, z)
    assert np.abs(along / along.max() - np.sinc(u / 4 / np.pi) ** 2).max() < 2e-3


@pytest.mark.parametrize("sample", [1.33, 1.4, 1.515])
def test_lateral_width_in_focus_is_that_of_the_aperture_whatever_the_sample(sample):
    """The aperture is n sin(angle), the same in every layer."""
    optics = objective(0.3, sample, 5.0)
    focus = find_focus(Microscope(Light(optics, WAVE)))
    pupil = make_pupil(Light(optics, WAVE), 3, abs(focus))
    profile = intensity(pupil, line(-3, 3, 601).abs(), line(focus, focus, 1))[0]
    assert width(profile.numpy(), 0.01) == pytest.approx(0.5145 * WAVE / 0.3, rel=0.01)


@pytest.mark.parametrize("vectorial", [False, True])
@pytest.mark.parametrize(("na", "sample", "depth"), [(1.4, 1.515, 0), (1.4, 1.33, 0.3)])
def test_every_plane_holds_the_same_light(vectorial, na, sample, depth):
    pupil = make_pupil(Light(objective(na, sample, depth), WAVE, vectorial), 20, 1.5)
    table = intensity(pupil, torch.arange(0, 20, 0.005, dtype=torch.float64), line(0, 1.5, 2))
    assert (enclosed(table, 0.005)[:, -1] / pupil.light_per_plane()).numpy() == pytest.approx(
        1,
        abs=6e-3,  # the rest lies beyond 20 um
    )


def test_light_beyond_the_sample_index_is_lost_with_depth():
    """Evanescent waves reach the cover slip from its own surface only."""
    near, far, cut = (
        make_pupil(Light(objective(na, 1.33, depth), WAVE), 1, 1).light_per_plane()
        for na, depth in ((1.45, 1e-6), (1.45, 5.0), (1.33, 5.0))
    )
    assert near > 1.1 * far
    assert far == pytest.approx(cut, rel=1e-3)


def test_pinhole_collects_what_it_covers():
    step, size = 0.002, 1500
    table = torch.exp(-((torch.arange(size) * step) ** 2) / 0.02)[None].double()
    radius = 0.3
    got = through_pinhole(table, step, radius, 251)[0]
    assert float(got[0]) == pytest.approx(0.02 * (1 - math.exp(-(0.3**2) / 0.02)) / 0.09, rel=1e-5)
    x = (torch.arange(-300, 301) * 0.002).double()
    inside = torch.hypot(x[:, None], x) < radius
    centre = 250 * step
    direct = torch.exp(-((x[:, None] - centre) ** 2 + x**2) / 0.02)[inside].mean()
    assert float(got[250]) == pytest.approx(float(direct), rel=5e-3)


def test_pixel_integration_is_that_of_a_gaussian():
    step, pitch = 0.002, (0.1, 0.16)
    table = torch.exp(-((torch.arange(2000) * step) ** 2) / 0.02)[None].double()
    got = over_pixels(table, step, pitch, (6, 4), 0.1)[0].numpy()
    lines = []
    for side, reach in zip(pitch, (6, 4), strict=True):
        edges = (np.arange(-reach, reach + 2) - 0.5) * side / math.sqrt(0.02)
        lines.append(np.diff([math.erf(e) for e in edges]) * math.sqrt(0.02 * math.pi) / 2)
    assert np.abs(got - np.outer(*lines)).max() < 1e-6 * got.max()


def test_confocal_goes_from_the_product_of_both_psfs_to_the_excitation_alone():
    common = {
        "numerical_aperture": 1.2,
        "sample_index": 1.515,
        "margin": 1,
        "crop": 0.9999,
        "model": "scalar",
    }
    grid = Grid((31, 31), (0.01, 0.01))  # so fine that a pixel's sum is its middle
    wide = {w: model(wavelength=w, **common).psf(grid) for w in (520.0, 488.0)}
    ratio = {p: model("confocal", pinhole=p, **common).psf(grid) for p in (0.0, 10.0)}
    both = wide[520.0] * wide[488.0]
    for got, expected in ((ratio[0.0], both), (ratio[10.0], wide[488.0])):
        n = min(len(got), len(expected))
        cut = [
            v[len(v) // 2 - n // 2 :][:n, len(v) // 2 - n // 2 :][:, :n] for v in (got, expected)
        ]
        cut = [v / v.max() for v in cut]
        assert np.abs(cut[0] - cut[1]).max() < 0.02


def test_sheet_is_a_gaussian_factor_along_the_axis():
    fields = {"crop": 0.9999, "margin": 1, "sheet_thickness": 0.8}
    lit = model("lightsheet", **fields).psf(GRID3)
    wide = model(
        "widefield", numerical_aperture=1.0, immersion_index=1.33, sample_index=1.33,
        cover_thickness=0, crop=0.9999, margin=1,
    ).psf(GRID3)  # fmt: skip
    z = (np.arange(len(wide)) - len(wide) // 2) * GRID3.pixel_size[0]
    expected = wide * np.exp(-4 * math.log(2) * (z / 0.8) ** 2)[:, None, None]
    reach = len(lit) // 2
    expected = expected[len(wide) // 2 - reach : len(wide) // 2 + reach + 1]
    assert lit == pytest.approx(expected / expected.sum(), abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grid", [GRID2, GRID3])
def test_psf_is_of_sum_one_odd_centred_and_bounded(kind, grid):
    psf = model(kind, margin=0.5).psf(grid)
    assert psf.sum() == pytest.approx(1)
    assert psf.min() >= 0
    assert all(n % 2 and n <= side + 1 for n, side in zip(psf.shape, grid.shape, strict=True))
    assert np.unravel_index(psf.argmax(), psf.shape) == tuple(n // 2 for n in psf.shape)
    assert psf == pytest.approx(psf[..., ::-1])


@pytest.mark.parametrize("kind", KINDS)
def test_volumes_have_exact_adjoints_and_keep_flux(kind):
    operator = model(kind).bind(GRID3)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((2, *operator.x_shape), generator=generator, dtype=torch.float64)
    assert operator.y_shape == (1, *GRID3.shape)
    a, b = dot_test(operator, x, generator)
    assert a == pytest.approx(b, rel=1e-10)
    flat = torch.full_like(x, 7.0)
    assert torch.allclose(operator(flat), torch.full((2, *operator.y_shape), 7.0).double())


def test_crop_keeps_the_share_it_names_and_margin_bounds_it():
    grid = Grid((400, 400), (0.06, 0.06))
    for share in (0.9, 0.97):
        kernel = model(crop=share).kernel(grid)
        assert not kernel.bounded
        assert share <= kernel.share < share + 0.02
    kernel = model(crop=0.99, margin=0.05).kernel(grid)
    assert kernel.bounded
    assert kernel.values.shape == (41, 41)


def test_planes_upwards_turn_the_volume_over():
    fields = {"numerical_aperture": 1.2, "sample_index": 1.33, "depth": 10}
    down, up = (model(planes=way, **fields).psf(GRID3) for way in ("downwards", "upwards"))
    assert down == pytest.approx(up[::-1])
    middle = len(down) // 2
    assert abs(down[middle - 3].max() / down[middle + 3].max() - 1) > 0.05
    # Water under oil: the stage moves farther for marginal rays than for paraxial ones.
    assert model(**fields).kernel(GRID3).focus > 0.5


def test_defocus_takes_another_plane_in_2d():
    sharp, soft = (model(defocus=z).psf(GRID2) for z in (0.0, 1.0))
    assert soft.max() < 0.5 * sharp.max()


def test_matched_layers_have_no_aberration_and_depth_brings_it():
    assert rms_error(objective(1.4), WAVE) < 1e-9
    errors = [rms_error(objective(1.2, 1.33, depth), WAVE) for depth in (5, 10, 20)]
    assert errors[2] == pytest.approx(4 * errors[0])
    assert find_focus(Microscope(Light(objective(1.4), WAVE))) == pytest.approx(0, abs=1e-3)


def test_cover_slip_that_is_too_thick_or_thin_aberrates():
    known = {"cover_index_design": 1.5255, "cover_thickness_design": 170}
    dry = {"numerical_aperture": 0.95, "immersion_index": 1.0, "sample_index": 1.33}
    errors = [
        rms_error(model(cover_thickness=t, **known, **dry).objective(), WAVE)
        for t in (160, 170, 180)
    ]
    assert errors[1] < 1e-9
    assert errors[0] == pytest.approx(errors[2])
    assert errors[0] > 1 / 14
