"""The report as a page: everything inside, in order, for every shape of result."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_dps import Recipe, Result, reconstruct
from napari_dps.cli import main
from napari_dps.errors import InputError
from napari_dps.plugin.words import result_text
from napari_dps.uncertainty.verdict import page as page_module
from napari_dps.uncertainty.verdict.finders import TITLES
from napari_dps.uncertainty.verdict.page import flat

CHOICES = (
    "--forward gaussian-blur --forward.sigma 1.5 --noise poisson --prior gaussian "
    "--sampler mmps --sampler.steps 5 --samples 2 --device cpu"
)


class Tags(HTMLParser):
    """Checks that elements are closed in order, and keeps their attributes."""

    EMPTY = ("meta", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.headings: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs) -> None:
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


@pytest.fixture(scope="module")
def restored() -> Result:
    rows, columns = np.mgrid[:24, :24]
    clean = 5 + 60 * np.exp(-((rows - 11) ** 2 + (columns - 14) ** 2) / 30)
    measured = np.random.default_rng(0).poisson(clean).astype(np.float32)
    prior = {"kind": "gaussian", "correlation_length": 3}
    return reconstruct(
        measured, noise="poisson", prior=prior, sampler={"kind": "mmps", "steps": 5}, samples=3
    )


def text_of(result: Result, folder: Path) -> str:
    path = result.save_report(folder / "new" / "page.html")
    text = path.read_text(encoding="utf-8")
    assert not Tags(text).open
    return text


def test_a_page_has_everything_in_order_and_inside(restored, tmp_path):
    text = text_of(restored, tmp_path)
    tags = Tags(text)
    assert tags.headings == ["Verdict", "Pictures", "Figures", "What was assumed", "Recipe"]
    assert not re.search(r"https?:|<script|<link|url\(", text)
    assert len(tags.images) == 4 + 4
    for image in tags.images:
        assert image["alt"] and str(image["src"]).startswith("data:image/png;base64,")
    captions = [str(image["alt"]) for image in tags.images]
    assert captions[0] == "Measurement" and captions[1] == "Posterior mean"
    assert restored.report["verdict"]["sentence"].split(".")[0] in text
    assert "&quot;kind&quot;: &quot;mmps&quot;" in text
    assert len(text) < 1_000_000


def test_a_mark_is_told_by_sign_and_word(restored, tmp_path):
    told = restored.report["verdict"]
    findings = {k: {**v, "alarm": k == "flux"} for k, v in told["findings"].items()}
    text = text_of(restored.with_maps(restored.maps, {**told, "findings": findings}), tmp_path)
    assert "✓</b> fine" in text and "✗</b> alarm" in text


def rows_of(text: str) -> dict[str, tuple[str, str]]:
    """Return the word of every question's mark, and its sentence, by its title."""
    found = re.findall(r"</b> ([a-z ]+)</span><div><h3>(.*?)</h3><p>(.*?)</p>", text)
    return {html.unescape(title): (word, html.unescape(said)) for word, title, said in found}


def test_what_was_not_asked_and_what_was_not_told_is_not_fine(restored, tmp_path):
    found = rows_of(text_of(restored, tmp_path))
    for title in TITLES.values():
        assert (
            found[title][0] == "not asked" and "napari_dps.assess(result, image)" in found[title][1]
        )
    told = dict(restored.report["verdict"])
    unsure = {"title": TITLES["familiarity"], "sentence": "Not told: it is small.", "told": False}
    told["findings"] = {
        **told["findings"], "familiarity": {**unsure, "alarm": False, "numbers": {}}
    }  # fmt: skip
    told["closer"] = True
    found = rows_of(text_of(restored.with_maps({}, told), tmp_path))
    assert found[TITLES["familiarity"]] == ("not told", "Not told: it is small.")
    assert "does not arise" in found[TITLES["support"]][1]
    one = Result(restored.samples[:1], report={"verdict": told})
    word, said = rows_of(text_of(one, tmp_path))[TITLES["stability"]]
    assert word == "not told" and "Too few samples" in said


def test_a_closer_look_names_no_question_as_not_asked(restored, tmp_path):
    told = dict(restored.report["verdict"])
    names = {n: {"title": t, "sentence": "Said.", "alarm": False, "numbers": {}}
             for n, t in TITLES.items()}  # fmt: skip
    told["findings"] = {**told["findings"], **names}
    found = rows_of(text_of(restored.with_maps({}, told), tmp_path))
    # Without "told", as older files are.
    assert all(found[title] == ("fine", "Said.") for title in TITLES.values())


@pytest.mark.parametrize(
    ("noise", "forward", "measured", "object_", "scale"),
    [
        ("poisson", "identity", "electrons", "electrons", "electrons"),
        ({"kind": "poisson", "gain": 2.0}, "identity", "ADU", "ADU", "electrons"),
        ({"kind": "gaussian", "sigma": 1.0}, "identity", *["input units"] * 3),
        ("poisson", "phase-retrieval", "electrons", "root electrons", "root electrons"),
    ],
)
def test_pictures_and_intensities_have_units(
    noise, forward, measured, object_, scale, tmp_path, monkeypatch
):
    seen: list[str] = []
    monkeypatch.setattr(page_module, "picture", lambda a, k, unit="": seen.append(unit) or "data:x")
    recipe = Recipe(noise=noise, forward=forward)
    report = {"scale": [300.0], "background": [1.0]}
    result = Result(np.random.default_rng(4).random((3, 8, 8)), recipe=recipe, report=report)
    maps = {"measurement": np.ones((8, 8)), "whitened_residual": np.ones((8, 8))}
    text = text_of(result.with_maps(maps), tmp_path)
    assert seen == [measured, object_, object_, "sd"]
    assert f"<td>scale</td><td>300 {scale}</td>" in text
    assert f"<td>background</td><td>1 {scale}</td>" in text


def test_a_stack_has_the_range_of_its_scales_and_all_axes_their_pixel_size(tmp_path):
    report = {"scale": [100.0 + k for k in range(10)], "background": [1.0] * 10}
    samples = np.random.default_rng(5).random((2, 10, 3, 8, 8))
    result = Result(
        samples, "TZYX", scale=(1.0, 0.3, 0.1, 0.11),
        units=("second", *["micrometer"] * 3), recipe=Recipe(), report=report,
    )  # fmt: skip
    text = text_of(result, tmp_path)
    assert "<td>scale</td><td>100 to 109 (10 values) electrons</td>" in text
    assert "<td>background</td><td>1 (10 values) electrons</td>" in text
    assert "Z 0.3 micrometer, Y 0.1 micrometer, X 0.11 micrometer" in text


def test_a_loaded_result_gives_the_same_page(restored, tmp_path):
    back = Result.load(restored.save(tmp_path / "r.tif"))
    assert text_of(back, tmp_path) == text_of(restored, tmp_path)


def test_names_cannot_break_the_page(tmp_path):
    result = Result(np.zeros((2, 8, 8)), name="<script>alert(1)</script>")
    text = text_of(result, tmp_path)
    assert "<script>" not in text and "&lt;script&gt;" in text


@pytest.mark.parametrize(
    ("axes", "shape", "panels"),
    [
        ("YX", (8, 9), 2),
        ("TYX", (3, 8, 9), 2),
        ("ZYX", (3, 8, 9), 2),
        ("CYX", (3, 8, 9), 2),
        ("CYX", (2, 8, 9), 2),
        ("TCZYX", (2, 2, 3, 8, 9), 2),
        ("YXT", (8, 9, 3), 2),
    ],
)
def test_results_of_every_shape_have_a_page(axes, shape, panels, tmp_path):
    samples = np.random.default_rng(1).random((3, *shape))
    text = text_of(Result(samples, axes), tmp_path)
    assert len(Tags(text).images) == panels
    assert "No verdict" in text


def test_point_estimates_and_odd_values_have_a_page(tmp_path):
    values = np.full((1, 8, 8), np.nan)
    one = Result(values, report={"point_estimate": True, "sampler": "wiener"}, recipe=Recipe())
    text = text_of(one, tmp_path)
    assert "no error bars" in text and len(Tags(text).images) == 1
    large = Result(np.random.default_rng(2).random((1, 700, 1100)))
    assert len(text_of(large, tmp_path)) < 600_000


def test_a_volume_is_shown_by_its_greatest_values():
    volume = np.zeros((2, 3, 4, 5))
    volume[1, 2, 1, 1] = 7
    shown, how = flat(volume, "TZYX", 1)
    assert shown.shape == (4, 5) and shown.max() == 7 and how == "greatest along Z"
    assert flat(volume, "TZYX", 0)[0].max() == 0


def test_frames_are_not_mixed_with_parts_of_one_object():
    stack = np.arange(4.0)[:, None, None] * np.ones((4, 3, 3))
    assert flat(stack, "ZYX", 1, "YX")[0].max() == 1  # planes that were restored one by one
    assert flat(stack[:2], "CYX", 1, "YX")[0].max() == 1  # channels
    both = np.stack([3 * stack, 4 * stack], axis=1)  # real and imaginary part of each frame
    shown, how = flat(both, "TCYX", 2, "CYX")
    assert how == "root of both parts' squares" and shown.shape == (3, 3) and (shown == 10).all()
    colours, how = flat(np.zeros((2, 3, 4, 5)), "TCYX", 1, "CYX")
    assert colours.shape == (3, 4, 5) and how == ""


def test_a_constant_frame_is_not_shown_and_a_result_knows_its_axes(tmp_path):
    rng = np.random.default_rng(6)
    stack = rng.poisson(20, (3, 16, 16)).astype(np.float32)
    stack[0] = 7
    found = reconstruct(
        stack, axes="TYX", noise="poisson", prior="gaussian",
        sampler={"kind": "mmps", "steps": 3}, samples=2,
    )  # fmt: skip
    assert found.report["object_axes"] == "YX" and found.report["frames_constant"] == [0]
    captions = [str(image["alt"]) for image in Tags(text_of(found, tmp_path)).images]
    assert not any("frame 0" in words for words in captions)


def test_a_result_that_was_saved_in_part_has_a_page(restored, tmp_path):
    back = Result.load(restored.save(tmp_path / "r.tif", write=("mean",)))
    assert back.holds("mean") and not back.holds("std") and not back.holds("samples")
    text = text_of(back, tmp_path)
    assert "saved without std: no picture shows it" in text and "Posterior mean" in text


def test_figures_of_several_levels_are_words():
    rows = dict(page_module._rows({"levels": [{"level": 0.1, "bounds": {"paper": -2.0}}]}))
    assert rows == {"levels, 1": "level 0.1, bounds paper -2"}


def test_other_suffixes_are_refused(restored, tmp_path):
    with pytest.raises(InputError, match=r"saved as \.html"):
        restored.save_report(tmp_path / "page.pdf")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        restored.save_report(tmp_path / "file" / "page.html")


def test_the_command_line_writes_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows, columns = np.mgrid[:24, :24]
    clean = 5 + 60 * np.exp(-((rows - 11) ** 2 + (columns - 14) ** 2) / 30)
    tifffile.imwrite("a.tif", np.random.default_rng(3).poisson(clean).astype(np.uint16))
    assert main(f"reconstruct a.tif -o o.tif {CHOICES} -q --report p/page.html".split()) == 0
    text = Path("p/page.html").read_text(encoding="utf-8")
    assert "Does it explain the data?" in text
    saved = Result.load("o.tif").report["verdict"]
    assert saved["sentence"].split(".")[0] in html.unescape(text)
    capsys.readouterr()
    assert main("reconstruct a.tif b.tif -o out/ --report page.html".split()) == 2
    assert "do not go on one page" in capsys.readouterr().err


def test_the_dock_tells_an_alarm_in_one_line(restored):
    told = {**restored.report["verdict"], "alarm": True, "sentence": "It is off. Mend it."}
    assert result_text(restored.with_maps({}, told)).endswith(". It is off")
    quiet = {**told, "alarm": False}
    assert "off" not in result_text(restored.with_maps({}, quiet))
