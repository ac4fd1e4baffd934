"""The command line: options, outputs, mistakes, Ctrl-C; with a stand-in for the run itself."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pytest
import tifffile
from fake_run import FakeRun, install
from pydantic import Field

from napari_dps.cli import _options, main
from napari_dps.components import GROUPS, ForwardModel, registry
from napari_dps.errors import RecipeError
from napari_dps.fields import describe_fields
from napari_dps.result import Result


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> Path:
    """A working folder with two images, a file that is none, and a recipe."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("a.tif", "b.tif"):
        tifffile.imwrite(name, rng.poisson(9.0, (32, 32)).astype(np.uint16))
    Path("bad.tif").write_text("no picture")
    Path("offset.json").write_text('{"intensity": {"scale": 1, "ofset": 2}}')
    tifffile.imwrite("rgb.tif", np.zeros((9, 9, 3), np.uint8), photometric="rgb")
    recipe = {
        "forward": {"kind": "gaussian-blur", "sigma": 3.5},
        "sampler": {"kind": "dps", "steps": 77},
        "intensity": {"scale": 40.0, "background": 2.0},
        "samples": 4,
        "seed": 11,
    }
    Path("r.json").write_text(json.dumps(recipe))
    return tmp_path


@pytest.fixture
def fake(folder: Path, monkeypatch: pytest.MonkeyPatch) -> type[FakeRun]:
    return install(monkeypatch)


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def recipe_of(fake: type[FakeRun], line: str) -> Any:
    assert main(line.split()) == 0
    return fake.made[-1].recipe


BLUR = "reconstruct a.tif -o o.tif --forward gaussian-blur "
PG = "reconstruct a.tif -o o.tif --noise poisson-gaussian "
MISTAKES = {
    "": ("reconstuct a.tif", r"did you mean 'reconstruct'"),
    "no output": ("reconstruct a.tif", r"needs --out or -o"),
    "no input": ("reconstruct -o o.tif", r"no image was named"),
    "option": ("reconstruct a.tif -o o.tif --nose poisson", r"--nose; did you mean --noise"),
    "kind": ("reconstruct a.tif -o o.tif --forward gausian-blur", r"mean 'gaussian-blur'"),
    "parameter": (BLUR + "--forward.sgma 2", r"no parameter 'sgma'; did you mean 'sigma'"),
    "of another": ("reconstruct a.tif -o o.tif --forward.sigma 2", r"belongs to .*gaussian-blur"),
    "range": (BLUR + "--forward.sigma -2", r"sigma = -2 is not allowed, give a number >.*px"),
    "nan": (BLUR + "--forward.sigma nan", r"sigma = nan is not allowed"),
    "no number": (BLUR + "--forward.sigma x", r"--forward.sigma: unable to convert \"x\""),
    "choice": (BLUR + "--forward.boundary perodic", r"did you mean \"periodic\""),
    "no value": ("reconstruct a.tif -o o.tif --forward", r"--forward requires an argument"),
    "auto": (PG + "--noise.gain -1", r"gain = -1 is not allowed, give a number >= 1e-12"),
    "auto text": (
        PG + "--noise.gain x",
        r"gain = .x. .*give a number or a file, or auto$",
    ),
    "samples": ("reconstruct a.tif -o o.tif --samples 0", r"samples = 0 is not allowed"),
    "recipe": ("reconstruct a.tif -o o.tif --recipe no.json", r"'no.json' cannot be read"),
    "background": ("reconstruct a.tif -o o.tif --intensity.background 3", r"--intensity\.scale"),
    "both": (
        "reconstruct a.tif -o o.tif --intensity auto --intensity.scale 3",
        r"--intensity auto estimates",
    ),
    "pixel size": ("reconstruct a.tif -o o.tif --pixel-size x", r"--pixel-size = 'x'"),
    "axes": ("reconstruct a.tif -o o.tif --axes QQ", r"axes 'QQ'"),
    "write": ("reconstruct a.tif -o o.tif --write men", r"did you mean 'mean'"),
    "itself": ("reconstruct a.tif -o ./a.tif", r"would overwrite the input"),
    "itself in a folder": ("reconstruct a.tif b.tif -o .", r"would overwrite the input"),
    "suffix": ("reconstruct a.tif -o o.png", r"name it \.tif"),
    "collision": ("reconstruct a.tif ./a.tif -o out", r"both be written"),
    "file as folder": ("reconstruct a.tif b.tif -o r.json", r"need a folder"),
    "missing": ("reconstruct no.tif -o o.tif", r"'no.tif'"),
    "no TIFF": ("reconstruct bad.tif -o o.tif", r"not a TIFF"),
    "prior folder": ("reconstruct a.tif -o o.tif --prior .", r"--prior checkpoint --prior\.path"),
    "list": ("list priors", r"did you mean \"prior\""),
    "evaluate": ("evaluate a.tif", r"needs TRUTH"),
    "truth": ("evaluate a.tif no.tif", r"'no.tif'"),
    "simulate": ("simulate a.tif -o o.png", r"no image file"),
    "simulate itself": ("simulate a.tif -o a.tif", r"would overwrite the input"),
    "no prior there": ("simulate a.tif -o o.tif --prior gaussian", r"--prior"),
    "no field there": ("simulate a.tif -o o.tif --prior.std 1", r"takes no prior"),
    "train": ("train -o run", r"no image was named"),
    "train minutes": ("train a.tif -o run --minutes 0", r"--minutes = 0"),
    "train preset": ("train a.tif -o run --preset smal", r"did you mean 'small'"),
    "train size": ("train a.tif -o run --size 50", r"size = 50 .* multiple of 8"),
    "train weight": ("train a.tif -o run --weight er", r"write FOLDER=2"),
    "train widths": ("train a.tif -o run --channels 30,60", r"multiples of 8"),
    "train synthetic": ("train a.tif -o run --synthetic", r"leave one of both out"),
    "train from": ("train --synthetic -o run --from none", r"there is no prior 'none'"),
    "fraction of a side": ("sample --shape 16.5 16 -o o.tif", r"\"16\.5\" is no whole number"),
    "train onto a file": ("train --synthetic -o b.tif --steps 1", r"'b\.tif' is a file"),
    "train credits": ("train a.tif -o run --credits no.md", r"--credits no\.md cannot be read"),
    "doctor": ("doctor --jsn", r"did you mean --json"),
    "fraction": ("reconstruct a.tif -o o.tif --samples 1.5", r"\"1\.5\" is no whole number"),
    "fraction of a step": (
        "reconstruct a.tif -o o.tif --sampler dps --sampler.steps 9.5",
        r"--sampler\.steps: \"9\.5\" is no whole number",
    ),
    "both ends": (BLUR + "--forward.sigma 900", r"give a number > 0 and <= 200 px"),
    "part of intensity": (
        "reconstruct a.tif -o o.tif --recipe offset.json",
        r"'intensity\.ofset'; allowed are scale, background",
    ),
    "report on an input": ("reconstruct a.tif -o o.tif --report ./a.tif", r"overwrite 'a\.tif'"),
    "report on a result": ("reconstruct a.tif -o o.tif --report o.tif", r"overwrite 'o\.tif'"),
    "report on a folder": ("reconstruct a.tif -o o.tif --report .", r"is a folder"),
    "report in a file": ("reconstruct a.tif -o o.tif --report b.tif/r.json", r"cannot be written"),
    "output in a file": ("reconstruct a.tif -o b.tif/o.tif", r"cannot be written"),
    "sample in a file": ("sample -o b.tif/o.tif", r"cannot be written"),
    "one too many": ("simulate a.tif b.tif -o o.tif", r"simulate takes no 'b\.tif' here"),
    "colour": ("evaluate rgb.tif rgb.tif", r"'rgb\.tif' is a colour"),
    "no image": ("evaluate bad.tif a.tif", r"'bad\.tif' is not a TIFF"),
}


@pytest.mark.parametrize(("line", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence(line, words, fake, folder, capsys) -> None:
    before = files(folder)
    assert main(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    last = err.strip().splitlines()[-1]
    assert last.startswith("napari-dps: ") and re.search(words, last), err
    assert "Traceback" not in err and len(err.strip().splitlines()) == 1
    assert files(folder) == before


def test_options_become_the_recipe(fake) -> None:
    line = (
        "reconstruct a.tif -o o.tif -q --forward gaussian-blur --forward.sigma 2.25 "
        "--noise poisson --noise.gain=4 --prior gaussian --sampler dps --sampler.steps 30 "
        "--samples 3 --seed 5 --intensity.scale 50 --intensity.background 1.5 --valid a.tif "
        "--device cpu --axes yx --pixel-size 0.2,0.1"
    )
    recipe = recipe_of(fake, line)
    run = fake.made[-1]
    assert recipe.forward.kind == "gaussian-blur" and recipe.forward.sigma == 2.25
    assert recipe.noise.gain == 4.0 and recipe.prior.kind == "gaussian"
    assert recipe.sampler.kind == "dps" and recipe.sampler.steps == 30
    assert (recipe.samples, recipe.seed) == (3, 5)
    assert (recipe.intensity.scale, recipe.intensity.background) == (50.0, 1.5)
    assert str(recipe.valid) == "a.tif"
    assert run.options["device"] == "cpu"
    assert run.image.pixel_size_yx == (0.2, 0.1)


def test_options_override_the_recipe_and_nothing_else_does(fake) -> None:
    base = recipe_of(fake, "reconstruct a.tif -o o.tif -q --recipe r.json")
    assert base.forward.sigma == 3.5 and base.sampler.steps == 77 and base.seed == 11
    assert base.intensity.scale == 40.0
    same = recipe_of(fake, "reconstruct a.tif -o o.tif -q --recipe r.json --forward gaussian-blur")
    assert same == base
    other = recipe_of(
        fake,
        "reconstruct a.tif -o o.tif -q --recipe r.json --forward.boundary periodic --sampler.scale "
        "0.5 --intensity.background 7 --seed 0",
    )
    assert other.forward.sigma == 3.5 and other.forward.boundary == "periodic"
    assert other.sampler.steps == 77 and other.sampler.scale == 0.5
    assert (other.intensity.scale, other.intensity.background) == (40.0, 7.0)
    assert other.seed == 0 and other.samples == 4
    kind = recipe_of(
        fake, "reconstruct a.tif -o o.tif -q --recipe r.json --forward identity --intensity auto"
    )
    assert kind.forward.kind == "identity" and kind.intensity == "auto"
    assert kind.sampler.steps == 77


def test_a_required_parameter_is_named(monkeypatch) -> None:
    class Needy(ForwardModel):
        """Needs a width."""

        kind: Literal["needy"] = "needy"
        width: float = Field(gt=0)
        """Width of it."""

    monkeypatch.setattr(_options, "component_class", lambda group, kind: Needy)
    words = r"forward 'needy' needs --forward.width \(float\): Width of it"
    with pytest.raises(RecipeError, match=words):
        _options.component_from("forward", {"forward": "needy"}, None)


@pytest.mark.parametrize("group", GROUPS)
def test_every_default_survives_the_command_line(fake, group, tmp_path) -> None:
    """Each component's own defaults, written out as options, give that component again."""
    for kind, cls in registry(group).items():
        infos = describe_fields(cls)
        if any(info.required for info in infos):
            continue
        words = ["reconstruct", "a.tif", "-o", "o.tif", "-q", f"--{group}", kind]
        words += ["--noise", "gaussian"] if group == "forward" else []  # all models can have it
        for info in infos:
            option = f"--{group}.{info.name.replace('_', '-')}"
            if info.default is None:
                continue
            if info.annotation is bool:
                negative = option.replace(".", ".no-", 1)
                words.append(option if info.default else negative)
            elif info.annotation == "other":
                words += [option, json.dumps(info.default)]
            else:
                words += [option, str(info.default)]
        assert main(words) == 0
        assert getattr(fake.made[-1].recipe, group) == cls()


def test_help_shows_the_chosen_parameters(fake, capsys) -> None:
    assert main("reconstruct --forward gaussian-blur --sampler=dps --help".split()) == 0
    text = capsys.readouterr().out
    for info in describe_fields(registry("forward")["gaussian-blur"])[:2]:
        line = next(row for row in text.splitlines() if f"--forward.{info.name}" in row)
        assert info.unit in line and info.range_text in line and str(info.default) in line
    assert "--sampler.steps" in text
    assert main("reconstruct --recipe r.json --help".split()) == 0
    assert "[default: 3.5]" in capsys.readouterr().out


def test_what_a_run_says(fake, capsys) -> None:
    assert main("reconstruct a.tif -o new/o.ome.tif --report rep/r.json".split()) == 0
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert lines[0] == (
        "a.tif: about 1 min 15 s, 286 MiB, 30 network calls, batches of 4, no tiles"
    )
    assert lines[1] == "warning: the counts look stretched"
    assert sum("%" in line for line in lines) <= 11
    assert lines[-1] == "new/o.ome.tif: 4 samples in 3.0 s, chi2 1 per datum"
    assert json.loads(Path("rep/r.json").read_text())["report"]["complete"] is True
    assert Result.load("new/o.ome.tif").recipe == fake.made[-1].recipe


def test_json_alone_on_stdout(fake, capsys) -> None:
    assert main("reconstruct a.tif -o o.tif --json --write mean --write std".split()) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["output"] == "o.tif" and answer["report"]["complete"] is True
    with tifffile.TiffFile("o.tif") as file:
        assert [series.name for series in file.series] == ["mean", "std"]


def test_a_folder_as_output(fake, folder) -> None:
    Path("there").mkdir()
    assert main("reconstruct a.tif -o there -q".split()) == 0
    assert main("reconstruct a.tif -o new/ -q --write mean,samples".split()) == 0
    assert {"there/a.tif", "new/a.tif"} <= files(folder)


def test_one_bad_file_among_several(fake, folder, capsys) -> None:
    assert main("reconstruct a.tif bad.tif b.tif -o out --json -q".split()) == 2
    out, err = capsys.readouterr()
    first, second, third = json.loads(out)["results"]
    assert first["output"] == str(Path("out/a.tif")) and third["input"] == "b.tif"
    assert "not a TIFF" in second["error"] and "napari-dps: bad.tif: " in err
    assert {p for p in files(folder) if p.startswith("out")} == {"out/a.tif", "out/b.tif"}


@pytest.mark.parametrize("inputs", ["a.tif", "a.tif b.tif"])
def test_ctrl_c_keeps_finished_samples(fake, folder, capsys, monkeypatch, inputs) -> None:
    monkeypatch.setattr(fake, "stop_at", 25)
    assert main(f"reconstruct {inputs} -o out/ -q --json".split()) == 130
    out, err = capsys.readouterr()
    result = Result.load("out/a.tif")
    assert len(result) == 2 and result.report["complete"] is False
    assert json.loads(out)
    assert "stopping; once more" in err and fake.made[0].cancelled
    assert not Path("out/b.tif").exists()


@pytest.mark.parametrize(("step", "presses"), [(5, 1), (25, 2)])
def test_ctrl_c_with_nothing_to_keep(fake, folder, capsys, monkeypatch, step, presses) -> None:
    before = files(folder)
    monkeypatch.setattr(fake, "stop_at", step)
    monkeypatch.setattr(fake, "presses", presses)
    assert main("reconstruct a.tif -o o.tif -q".split()) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert files(folder) == before


def test_ctrl_c_before_the_first_step(fake, folder, capsys, monkeypatch) -> None:
    monkeypatch.setattr(fake, "plan", lambda run: signal.raise_signal(signal.SIGINT))
    assert main("reconstruct a.tif -o o.tif".split()) == 130
    assert capsys.readouterr().err == "napari-dps: stopped; nothing was written\n"


def test_a_command_that_there_is_not(fake, folder, capsys) -> None:
    assert main(["reconstrct"]) == 2
    assert capsys.readouterr().err == (
        "napari-dps: there is no command 'reconstrct'; did you mean 'reconstruct'?\n"
    )
    assert main(["x"]) == 2
    assert capsys.readouterr().err.endswith("train, list, priors, doctor\n")


def test_an_output_without_a_name(fake, folder, capsys) -> None:
    assert main(["reconstruct", "a.tif", "-o", ""]) == 2
    assert "empty name" in capsys.readouterr().err


def test_a_report_leaves_its_inputs_alone(fake, folder) -> None:
    before = Path("a.tif").read_bytes()
    assert main("reconstruct a.tif -o o.tif --report a.tif -q".split()) == 2
    assert Path("a.tif").read_bytes() == before


def test_our_own_mistake_is_code_1(fake, folder, capsys, monkeypatch) -> None:
    before = files(folder)
    monkeypatch.setattr(fake, "error", ZeroDivisionError("oops"))
    assert main("reconstruct a.tif -o o.tif -q".split()) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err and err.strip().endswith("ZeroDivisionError: oops")
    assert files(folder) == before


def test_light_verbs_load_nothing_heavy(folder) -> None:
    code = (
        "import sys\n"
        "from napari_dps.cli import main\n"
        "for line in ('list', 'list forward --json', 'reconstruct --help', '--help', 'x',\n"
        "             'reconstruct a.tif -o a.tif', 'reconstruct a.tif -o o.tif --forward x'):\n"
        "    main(line.split())\n"
        "heavy = {'torch', 'diffusers', 'scipy', 'skimage', 'napari', 'qtpy', 'matplotlib'}\n"
        "sys.exit(3 if heavy & set(sys.modules) else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_evaluate(fake, folder, capsys) -> None:
    assert main("reconstruct a.tif -o o.tif -q".split()) == 0
    capsys.readouterr()
    assert main("evaluate o.tif a.tif --json".split()) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["bias"] == pytest.approx(1.5) and answer["samples"] == 4
    assert answer["coverage"]["0.9"] is None and answer["coverage"]["0.5"] is not None
    assert answer["residual"] == [1.0] and answer["gain"] == pytest.approx(1.0)
    assert main("evaluate o.tif a.tif --fit".split()) == 0
    assert "PSNR" in capsys.readouterr().out
    assert main("evaluate b.tif a.tif --json".split()) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 0


def test_evaluate_registers(folder, capsys) -> None:
    """Flips and shifts, which a diffraction pattern cannot tell, are undone when asked."""
    truth = tifffile.imread("a.tif").astype(np.float32)
    draws = np.stack([truth + k for k in (-1, 0, 1)])
    Result(np.roll(draws[:, ::-1, ::-1], (5, -3), (1, 2))).save("o.tif")
    for option, error in (("", 1.0), ("--register", 0.0)):
        assert main(f"evaluate o.tif a.tif --json {option}".split()) == 0
        answer = json.loads(capsys.readouterr().out)
        assert (answer["rmse"] > 1e-3) == bool(error) and answer["registered"] == (not error)
    assert answer["coverage"]["0.5"] == 1.0
    np.save("stack.npy", np.stack([truth, truth]))
    assert main("evaluate stack.npy stack.npy --register".split()) == 2
    assert "2D" in capsys.readouterr().err


@pytest.mark.parametrize("passed", [True, False])
def test_demo(monkeypatch, capsys, folder, passed) -> None:
    def run_demo(out: Path, progress: Any) -> dict[str, Any]:
        case = {"psnr_input": 11.0, "psnr_baseline": 20.0, "psnr": 23.25, "passed": passed}
        return {"passed": passed, "cases": ["nuclei"], "nuclei": case}

    demo = ModuleType("napari_dps.demo")
    demo.run_demo = run_demo  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "napari_dps.demo", demo)
    assert main(["demo", "--out", "d"]) == (0 if passed else 1)
    out, err = capsys.readouterr()
    assert "23.25" in out and ("are in d" in err) == passed
