"""PSFs: the properties of each formula, and the notes on PSFs from files."""

from __future__ import annotations

import contextlib
import math
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from unconv.errors import DtypeError, NonFinite, PictureError, ShapeError
from unconv.inverse.psf import airy, airy_radius, checked, disk, gaussian, gibson_lanni, motion, open_psf, uniform
from unconv.inverse.psf.mat import read_mat
from unconv.pictures.encode import save

OIL = {"wavelength": 0.52, "pixel": 0.1, "spacing": 0.2}
SYMMETRIC = {
    "gaussian": gaussian(1.5),
    "gaussian, 3 axes": gaussian((1, 2, 0.5)),
    "uniform": uniform(5),
    "uniform, 3 axes": uniform((3, 5, 1)),
    "disk": disk(3.3),
    "motion": motion(9, 30),
    "airy": airy(2.7),
    "gibson_lanni": gibson_lanni((7, 11, 13), **OIL),
}


def centroid(kernel):
    return [
        float((kernel.sum([o for o in range(kernel.ndim) if o != a]) * torch.arange(n)).sum())
        for a, n in enumerate(kernel.shape)
    ]


@pytest.mark.parametrize("name", SYMMETRIC)
def test_a_psf_sums_to_one_around_its_middle(name):
    kernel = SYMMETRIC[name]
    assert kernel.dtype == torch.float64 and (kernel >= 0).all()
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-12)
    assert all(n % 2 for n in kernel.shape)
    assert torch.allclose(kernel, kernel.flip(list(range(kernel.ndim))), atol=1e-12)
    assert centroid(kernel) == pytest.approx([n // 2 for n in kernel.shape], abs=1e-9)


@pytest.mark.parametrize("name", SYMMETRIC)
def test_a_made_psf_gives_no_note(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kernel, notes = checked(SYMMETRIC[name])
    assert not notes and torch.allclose(kernel, SYMMETRIC[name], rtol=1e-12)


def test_a_gaussian_is_the_formula():
    kernel = gaussian((1.0, 2.5), size=(7, 11))
    expected = [[math.exp(-((y - 3) ** 2) / 2 - (x - 5) ** 2 / 12.5) for x in range(11)] for y in range(7)]
    assert torch.allclose(kernel, torch.tensor(expected).double() / np.sum(expected), rtol=1e-6)
    assert gaussian(1.0).shape == (9, 9)
    assert gaussian(1.0, ndim=3).shape == (9, 9, 9)


def test_a_gaussian_of_no_width_is_a_delta():
    assert gaussian((0, 1), size=(3, 9)).sum(1).tolist() == pytest.approx([0, 1, 0])


def test_the_centre_of_an_even_size_is_at_half_of_it():
    assert int(gaussian(1.0, size=6).argmax()) == 3 * 6 + 3
    assert int(airy(1.5, size=(4, 6)).argmax()) == 2 * 6 + 3


def test_a_box_is_even():
    assert torch.equal(uniform((2, 4)), torch.full((2, 4), 1 / 8, dtype=torch.float64))
    assert uniform(3, ndim=1).tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("radius", [0.3, 1.0, 2.5, 7.2])
def test_a_disk_covers_its_area(radius):
    kernel = disk(radius)
    n = len(kernel)
    fine = (torch.arange(n * 300).double() + 0.5) / 300 - n / 2
    inside = (fine[:, None] ** 2 + fine**2 <= radius**2).double()
    areas = inside.view(n, 300, n, 300).mean((1, 3))
    assert torch.allclose(kernel * math.pi * radius**2, areas, atol=2e-3)
    assert torch.allclose(kernel, kernel.T, atol=1e-4)


@pytest.mark.parametrize("length", [1, 2, 3, 4.5, 9])
def test_a_level_motion_is_a_box_and_an_upright_one_its_transpose(length):
    half = math.ceil((length - 1) / 2)
    box = [min(max(length / 2 - abs(x) + 0.5, 0), 1) for x in range(-half, half + 1)]
    assert motion(length, 0).shape == (1, len(box))
    assert motion(length, 0)[0].tolist() == pytest.approx([weight / length for weight in box])
    assert torch.allclose(motion(length, 90), motion(length, 0).T, atol=1e-15)
    assert torch.allclose(motion(length, 180), motion(length, 0), atol=1e-15)


@pytest.mark.parametrize("angle", [0, 17, 45, 90, -60])
def test_a_motion_of_one_sample_is_none(angle):
    assert motion(1, angle).tolist() == [[1.0]]


def test_a_motion_turns_counter_clockwise():
    kernel = motion(15, 30)
    right = kernel[:, kernel.shape[1] // 2 + 3 :]
    rows = right.sum(1) @ torch.arange(len(kernel)).double() / right.sum()
    assert float(rows) < len(kernel) // 2 - 1
    assert torch.allclose(kernel.flip(0), motion(15, -30))


@pytest.mark.parametrize("angle", [10, 30, 45, 72])
def test_a_slanted_motion_is_as_long_and_points_as_said(angle):
    kernel = motion(41, angle)
    y, x = (torch.arange(n).double() - n // 2 for n in kernel.shape)
    yy, xx = (kernel.sum(1) * y**2).sum(), (kernel.sum(0) * x**2).sum()
    xy = (kernel * y[:, None] * x).sum()
    assert float(yy + xx) == pytest.approx(41**2 / 12, rel=0.03)
    assert math.degrees(0.5 * math.atan2(-2 * xy, xx - yy)) == pytest.approx(angle, abs=0.5)


@pytest.mark.parametrize("first_zero", [4.0, 10.0])
def test_airys_first_dark_ring_lies_where_it_is_said(first_zero):
    kernel = airy(first_zero)
    middle = len(kernel) // 2
    assert float(kernel[middle, middle + int(first_zero)] / kernel.max()) < 1e-20
    assert (kernel[middle, middle : middle + int(first_zero)] > 0).all()


def test_the_first_dark_ring_is_rayleighs():
    assert airy_radius(0.5, 1.4, 0.1) == pytest.approx(1.22 * 0.5 / (2 * 1.4) / 0.1, rel=1e-3)
    assert airy_radius(550, 0.4, 65) == pytest.approx(airy_radius(0.55, 0.4, 0.065))


@pytest.mark.parametrize("aperture", [0.1, 0.9, 1.4])
def test_without_aberration_the_focal_plane_is_airys(aperture):
    kernel = gibson_lanni((5, 31, 33), **OIL, numerical_aperture=aperture, sample_index=1.515)
    plane = kernel[2] / kernel[2].sum()
    assert torch.allclose(plane, airy(airy_radius(0.52, aperture, 0.1), (31, 33)), atol=1e-10)


@pytest.mark.parametrize("index", [1.33, 1.515])
def test_without_depth_both_sides_of_the_focus_are_alike(index):
    kernel = gibson_lanni((11, 15, 15), **OIL, sample_index=index)
    assert torch.allclose(kernel, kernel.flip(0), atol=1e-12)


def test_on_the_axis_a_low_aperture_falls_as_sinc_squared():
    kernel = gibson_lanni((41, 1, 1), wavelength=0.5, pixel=1, spacing=2.0, numerical_aperture=0.1, sample_index=1.515)
    z = 2.0 * (torch.arange(41).double() - 20)
    expected = torch.sinc(z * 0.1**2 / (4 * 1.515) / 0.5 * 2) ** 2  # Born & Wolf, sec. 8.8.2: (sin(u/4) / (u/4))**2
    assert torch.allclose(kernel[:, 0, 0] / kernel.max(), expected, atol=2e-3)


@pytest.mark.parametrize(
    "aberration", [{"depth": 5.0}, {"coverslip_thickness": 180.0, "coverslip_index": 1.53}, {"immersion_index": 1.50}]
)
def test_spherical_aberration_tells_the_sides_apart(aberration):
    kernel = gibson_lanni((21, 9, 9), **OIL, **aberration)
    assert float((kernel - kernel.flip(0)).abs().max() / kernel.max()) > 0.1
    assert torch.allclose(kernel, kernel.flip([1, 2]), atol=1e-15)


def test_a_matched_sample_of_any_depth_has_no_aberration():
    deep = gibson_lanni((9, 11, 11), **OIL, sample_index=1.515, depth=20.0)
    assert torch.allclose(deep, gibson_lanni((9, 11, 11), **OIL, sample_index=1.515), atol=1e-12)


def test_each_plane_holds_the_same_light():
    kernel = gibson_lanni((5, 101, 101), wavelength=0.5, pixel=0.05, spacing=0.15, numerical_aperture=1.2, depth=3.0)
    light = kernel.sum((1, 2))
    assert float(light.max() / light.min()) < 1.05


def test_gibson_lanni_agrees_with_a_plain_sum():
    options = {"depth": 8.0, "sample_index": 1.38, "coverslip_index": 1.522, "coverslip_thickness": 165.0}
    kernel = gibson_lanni((3, 5, 5), **OIL, **options)
    s = (torch.arange(50_000).double() + 0.5) / 50_000 * 1.38
    root = lambda n: (n**2 - s**2).sqrt()  # noqa: E731
    left = 1.515 * (170 / 1.515 + 150 / 1.515 - 165 / 1.522 - 8 / 1.38)
    expected = torch.zeros(3, 5, 5).double()
    for z, y, x in np.ndindex(3, 5, 5):
        path = 8 * root(1.38) + 165 * root(1.522) - 320 * root(1.515) + (left - (z - 1) * 0.2) * root(1.515)
        wave = s * torch.special.bessel_j0(2 * math.pi / 0.52 * 0.1 * math.hypot(y - 2, x - 2) * s)
        expected[z, y, x] = (wave * torch.exp(2j * math.pi / 0.52 * path)).sum().abs() ** 2
    assert torch.allclose(kernel, expected / expected.sum(), rtol=1e-4)


REFUSED = [
    (lambda: gaussian(-1), "gaussian: sigma is -1"),
    (lambda: gaussian((1, 2), size=(3, 3, 3)), "gaussian: size is"),
    (lambda: gaussian(1, size=0), "a whole number of samples of at least 1"),
    (lambda: uniform(2.5), "uniform: size is 2.5"),
    (lambda: disk(0), "disk: radius is 0"),
    (lambda: motion(0.5), "motion: length is 0.5"),
    (lambda: motion(5, math.nan), "motion: length is 5 and angle nan"),
    (lambda: airy(math.inf), "airy: first_zero is inf"),
    (lambda: airy_radius(0.5, -1, 1), "airy_radius: numerical_aperture is -1"),
    (lambda: gibson_lanni((3, 3), **OIL), "gibson_lanni: size is"),
    (lambda: gibson_lanni((3, 3, 3), **OIL, sample_index=0.5), "indices of at least 1"),
    (lambda: gibson_lanni((3, 3, 3), **OIL, depth=1000.0), "at depth 1000.0 the immersion layer is .* but more than"),
]


@pytest.mark.parametrize("make, words", REFUSED)
def test_settings_that_make_no_psf_are_refused(make, words):
    with pytest.raises(ShapeError, match=words):
        make()


def test_another_sum_is_divided_out_and_said():
    with pytest.warns(UserWarning, match=r"psf: it sums to 9, and was divided by its sum"):
        kernel, notes = checked(np.ones((3, 3)), 2)
    assert len(notes) == 1 and torch.allclose(kernel, uniform(3))


def test_a_sum_almost_one_is_divided_out_in_silence():
    kernel, notes = checked(uniform(3) * 1.0009)
    assert not notes and torch.allclose(kernel, uniform(3))


def test_negative_mass_is_kept_and_said():
    with pytest.warns(UserWarning, match=r"psf: 25\.00% of its mass is negative, and was kept"):
        kernel, _ = checked(torch.tensor([[-0.25, 1.5, -0.25]]))
    assert kernel.tolist() == [[-0.25, 1.5, -0.25]]


@pytest.mark.parametrize("values, total", [([-1.0, 2, -1], "0"), ([0.0, -2, 1], "-1")])
def test_a_kernel_without_a_positive_sum_is_kept(values, total):
    with (
        pytest.warns(UserWarning, match=f"it sums to {total}, so it was not divided by its sum"),
        pytest.warns(UserWarning, match="negative"),
    ):
        kernel, notes = checked(torch.tensor(values))
    assert kernel.tolist() == values and len(notes) == 2


def test_mass_off_the_centre_is_said():
    kernel = torch.zeros(5, 5)
    kernel[1, 4] = 1
    with pytest.warns(UserWarning, match=r"centroid is at \(1\.00, 4\.00\).*taken as \(2, 2\).*by \(1\.00, -2\.00\).*centre="):
        found, _ = checked(kernel)
    assert torch.equal(found, kernel.double())


@pytest.mark.parametrize("size", [2, 4, (3, 6)])
def test_half_a_sample_off_is_an_even_size_and_no_news(size):
    assert checked(uniform(size))[1] == []


BAD = [
    (np.zeros((0, 3)), ShapeError, "without a length of 0"),
    (np.ones((1, 1, 3, 3)), ShapeError, "an array of 2 axes without a length of 0 was needed"),
    (np.zeros((3, 3)), ShapeError, "zero, but a positive sum was needed"),
    (np.array([[1, np.nan, np.inf]]), NonFinite, "2 of 3 samples are NaN or infinite"),
    (np.ones((3, 3), bool), DtypeError, "samples are bool"),
    (torch.ones(3, 3, dtype=torch.cfloat), DtypeError, "samples are complex64"),
    (np.array([["a"]]), DtypeError, "integers or floats were needed"),
]


@pytest.mark.parametrize("psf, error, words", BAD)
def test_what_is_no_psf_is_refused(psf, error, words):
    with pytest.raises(error, match=words):
        checked(psf, 2)


KERNEL = gaussian((1, 2), size=(5, 9))


@pytest.mark.parametrize("name", ["psf.npy", "psf.tif", "psf.txt", "psf.csv", "psf.mat"])
def test_a_file_of_numbers_is_opened(tmp_path, name):
    path = tmp_path / name
    if name.endswith("mat"):
        pytest.importorskip("scipy.io", reason="writes the file").savemat(path, {"h": KERNEL.numpy()})
    elif name[-3:] in ("txt", "csv"):
        np.savetxt(path, KERNEL, delimiter="," if name.endswith("csv") else " ")
    else:
        save(KERNEL.float() if name.endswith("tif") else KERNEL, path)
    kernel, notes = open_psf(path, 2)
    assert not notes and torch.allclose(kernel, KERNEL, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_picture_of_integers_is_divided_by_its_sum_in_silence(tmp_path, dtype):
    save((KERNEL / KERNEL.max() * np.iinfo(dtype).max).round().numpy().astype(dtype), tmp_path / "psf.png")
    kernel, notes = open_psf(tmp_path / "psf.png")
    assert not notes and torch.allclose(kernel, KERNEL, atol=1e-3)


def test_grey_in_three_channels_is_grey_and_colour_is_refused(tmp_path):
    grey = Image.fromarray((KERNEL / KERNEL.max() * 255).byte().numpy())
    grey.convert("RGB").save(tmp_path / "grey.png")
    assert open_psf(tmp_path / "grey.png", 2)[0].shape == (5, 9)
    Image.new("RGB", (3, 3), "red").save(tmp_path / "red.png")
    with pytest.raises(ShapeError, match="is coloured"):
        open_psf(tmp_path / "red.png")


def test_pages_are_a_volume(tmp_path):
    volume = gaussian(1.0, size=5, ndim=3).float()
    save(volume, tmp_path / "psf.tif")
    assert torch.allclose(open_psf(tmp_path / "psf.tif", 3)[0].float(), volume)


def test_arrays_and_tensors_are_opened_as_they_are():
    assert torch.equal(open_psf(uniform(3))[0], checked(uniform(3))[0])
    with pytest.raises(DtypeError, match="psf: it is a list"):
        open_psf([[1.0]])


def test_a_matlab_file_of_several_arrays_needs_a_name(tmp_path):
    scipy_io = pytest.importorskip("scipy.io", reason="writes the file")
    scipy_io.savemat(tmp_path / "two.mat", {"h": KERNEL.numpy(), "g": np.ones((2, 2)), "by": "someone"})
    with pytest.raises(PictureError, match=r"does not say which array is the PSF; it has .*h \(5, 9\).*Pass name="):
        open_psf(tmp_path / "two.mat")
    with pytest.raises(PictureError, match="has no array 'k'"):
        open_psf(tmp_path / "two.mat", name="k")
    assert torch.equal(open_psf(tmp_path / "two.mat", name="h")[0], checked(KERNEL)[0])


@pytest.mark.parametrize("name", ["a.npy", "a.png", "a.mat", "a.txt", "a.csv", "a"])
def test_an_absent_or_damaged_file_is_refused(tmp_path, name):
    with pytest.raises(PictureError, match="there is no file"):
        open_psf(tmp_path / name)
    (tmp_path / name).write_bytes(b"no numbers \xff")
    with pytest.raises(PictureError, match=name):
        open_psf(tmp_path / name)


@pytest.mark.parametrize("options", [{}, {"do_compression": True}, {"format": "4"}], ids=["plain", "packed", "of MATLAB 4"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64"])
def test_a_matlab_file_is_read_as_scipy_reads_it(tmp_path, options, dtype):
    scipy_io = pytest.importorskip("scipy.io", reason="writes the file")
    array = (KERNEL.numpy() * 120).astype(dtype)
    if "format" in options and dtype in ("int8", "uint32", "int64"):
        return  # MATLAB 4 has no such type
    others = {"name_of_some_length": np.ones((2, 2)), "text": "ab", "z": np.ones(3) * 1j}
    cells = {} if "format" in options else {"cell": np.array([{"a": 1}], dtype=object), "flag": np.array(True)}
    scipy_io.savemat(tmp_path / "a.mat", {**others, **cells, "h": array}, **options)
    found, theirs = read_mat(tmp_path / "a.mat", "h"), scipy_io.loadmat(tmp_path / "a.mat")["h"]
    assert np.array_equal(found, theirs) and found.dtype.kind == theirs.dtype.kind


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"do_compression": True}, {"format": "4"}], ids=["plain", "packed", "of MATLAB 4"])
def test_a_matlab_file_cut_anywhere_or_with_a_bit_flipped_is_read_or_refused(tmp_path, options):
    scipy_io = pytest.importorskip("scipy.io", reason="writes the file")
    path, random = tmp_path / "a.mat", np.random.default_rng(0)
    scipy_io.savemat(path, {"h": KERNEL.numpy()}, **options)
    content = path.read_bytes()
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        with pytest.raises(PictureError, match="psf: "):
            read_mat(path, "h")
    for at, value in random.integers(0, [len(content), 256], (500, 2)):
        path.write_bytes(content[:at] + bytes([value]) + content[at + 1 :])
        with contextlib.suppress(PictureError, ShapeError):
            assert read_mat(path, None).size


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 1), (4, 1, 2, 2)])
def test_a_matlab_array_of_any_axes_keeps_them(tmp_path, shape):
    scipy_io = pytest.importorskip("scipy.io", reason="writes the file")
    array = np.arange(math.prod(shape)).reshape(shape) / 8
    scipy_io.savemat(tmp_path / "a.mat", {"h": array}, do_compression=True)
    assert np.array_equal(read_mat(tmp_path / "a.mat", None), array)
