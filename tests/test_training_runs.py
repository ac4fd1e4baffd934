"""What a run refuses before it begins, keeps when it is resumed, and whose work it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_dps.cli import main
from napari_dps.errors import InputError
from napari_dps.priors._folder import prior_info
from napari_dps.priors._network import DenoiserNetwork
from napari_dps.priors.fluorescence import FOLDER
from napari_dps.training import feed, history, loop
from napari_dps.training import train as train_module
from napari_dps.training.data import Patches
from napari_dps.training.engine import Pieces
from napari_dps.training.feed import Feeder
from napari_dps.training.images import collect
from napari_dps.training.loop import Loop
from napari_dps.training.settings import Settings, check_size
from napari_dps.training.train import train
from napari_dps.training.trainer import CHECKPOINT, read_checkpoint

TINY: dict[str, Any] = {
    **{"batch": 2, "size": 16, "channels": (8,), "workers": 0, "judged": 0, "threads": 1},
    **{"precision": "float32", "phantoms": 0.0, "textures": 0.0, "rate": 0.0},
}


def stack(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 64, 64)).astype(np.float32)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"channels": (30, 60)}, r"channels = \(30, 60\) is not allowed, give 1 to 7 widths"),
        ({"channels": ()}, r"channels = \(\) is not allowed"),
        ({"channels": 8}, "channels = 8 is not allowed"),
        ({"channels": (8,) * 8}, "channels = .* is not allowed"),
        ({"channels": (8.0,)}, "channels = .* is not allowed"),
        ({"decay": -1.0}, "decay = -1 is not allowed, give a number from 0 to 10"),
        ({"batch": 2.5}, "batch = 2.5 is not allowed, give a whole number from 1 to 4096"),
        ({"batch": "2"}, "batch = '2' is not allowed, give a whole number"),
        ({"batch": True}, "batch = 1 is not allowed, give a whole number"),
        ({"steps": 2.5}, "steps = 2.5 is not allowed, give a whole number"),
        ({"minutes": None}, "minutes = None is not allowed"),
        ({"sigma_max": 0.5}, "sigma_max = 0.5 is not allowed"),
        ({"sigma_min": -1.0}, "sigma_min = -1 is not allowed"),
        ({"sigma_min": 2.0}, "sigma_min = 2 is not allowed"),
        ({"look": float("nan")}, "look = nan is not allowed"),
        ({"save": -1.0}, "save = -1 is not allowed"),
        ({"device": 3}, "device = 3 is not allowed"),
    ],
)
def test_settings_are_checked(values: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Settings(**values)


def test_numbers_of_numpy_are_numbers() -> None:
    found = Settings(batch=np.int64(4), rate=np.float32(0.5), channels=np.array([8, 16]))  # type: ignore[arg-type]
    assert (type(found.batch), type(found.rate)) == (int, float)
    assert found.channels == (8, 16)


def never(*args: object, **more: object) -> None:
    raise AssertionError("this is too heavy to come before the refusal")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"licence": 3}, "licence = 3 is not allowed, give text"),
        ({"name": ["a"]}, "name = .* is not allowed, give text"),
        ({"credits_text": b"a"}, "credits = .* is not allowed, give text"),
        ({"licence": "x" * 4001}, "The licence has 4001 characters: give 4000 at most"),
        ({"name": "x" * 4001}, "The name has 4001 characters"),
        ({"licence": "x" * 3995, "start": FOLDER}, "with that of the prior the run goes on from"),
        ({"preset": 3}, "preset 3 is unknown"),
        ({"settings": {"device": "tpu"}}, "device 'tpu' is not available"),
        ({"settings": {"channels": (8,)}, "start": FOLDER}, "not those of the prior to go on from"),
    ],
)
def test_mistakes_are_told_before_images_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr(train_module, "collect", never)
    with pytest.raises(InputError, match=words):
        train([stack(1)], tmp_path / "run", **more)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("place", ["file", "file/run", "x" * 300])
def test_a_folder_that_cannot_be_made_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(train_module, "collect", never)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"is a file; name a folder|cannot be written"):
        train([stack(1)], tmp_path / place)


@pytest.mark.parametrize(
    ("size", "channels", "words"),
    [
        (24, (32, 64, 128, 128), "size = 24 does not .* 4 levels .* of 16: give 16 or 32"),
        (8, (8, 8, 8, 8), "size = 8 does not .* of 16: give 16$"),
        (64, (8,) * 7, "size = 64 does not .* 7 levels .* of 128: give 128$"),
    ],
)
def test_sizes_must_fit_the_network(
    tmp_path: Path, size: int, channels: tuple[int, ...], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        train([], tmp_path / "run", steps=1, settings={**TINY, "size": size, "channels": channels})
    assert not (tmp_path / "run").exists()


def test_the_network_of_the_start_tells_the_sizes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    words = ["train", "--synthetic", "-o", out, "--steps", "5", "--size", "24"]
    assert main([*words, "--from", "fluorescence"]) == 2
    assert "multiple of 16: give 16 or 32" in capsys.readouterr().err
    check_size(24, prior_info(FOLDER).network.model_copy(update={"channels": (8, 8)}))


def test_a_resumed_run_keeps_start_and_widths(tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = train([stack(1)], out, steps=1, settings=TINY)
    with pytest.raises(InputError, match=r"channels = \(16,\) are not those of the run .* \(8,\)"):
        train([stack(1)], out, steps=2, resume=True, settings={"channels": (16,)})
    with pytest.raises(InputError, match=r"began from nothing, and .* is another prior"):
        train([stack(1)], out, steps=2, resume=True, start="fluorescence")
    train([stack(1)], out, steps=2, resume=True, settings={"channels": (8,)})
    assert read_checkpoint(out)["step"] == 2
    # The same command goes on, whatever stands in it.
    tuned, wide = tmp_path / "tuned", Settings(**{**TINY, "steps": 1, "channels": (16, 16)})
    copy = tmp_path / "copy"
    first.rename(copy)
    train([stack(1)], tuned, settings=wide, start=copy)
    assert read_checkpoint(tuned)["settings"]["channels"] == (8,)
    longer = Settings(**{**TINY, "steps": 2, "channels": (16, 16)})
    train([stack(1)], tuned, settings=longer, start=copy, resume=True)
    assert read_checkpoint(tuned)["step"] == 2
    with pytest.raises(InputError, match=r"began from the prior [0-9a-f]{16}, and"):
        train([stack(1)], tuned, steps=3, start="fluorescence", resume=True)


def save_all(folder: Path, seeds: range) -> Path:
    folder.mkdir()
    for seed in seeds:
        np.save(folder / f"{seed}.npy", stack(1, seed)[0])
    return folder


def test_what_a_resumed_run_adds_is_told(tmp_path: Path) -> None:
    out = tmp_path / "run"
    old, new = save_all(tmp_path / "old", range(6)), save_all(tmp_path / "new", range(6, 12))
    train([old], out, steps=1, settings=TINY)
    held = set((history.names(read_checkpoint(out)["facts"]) or {})["held_out"])
    assert held
    mixed = {"textures": 0.5}
    prior = train([new], out, steps=2, resume=True, weights={"new": 3.0}, settings=mixed)
    told = prior_info(prior).training
    assert set(told["groups"]) == {"old", "new"}
    assert told["groups"]["new"]["weight"] == 3.0
    assert told["real_images"] + told["held_out_images"] == 12
    assert told["mixture"] == {"real": 0.5, "phantoms": 0.0, "textures": 0.5}
    card = (prior / "README.md").read_text(encoding="utf-8")
    assert "  - old: " in card
    assert "  - new: " in card
    # Fewer images: counts do not fall, and what was held out is not learned from.
    few = [old / name.rpartition("/")[2] for name in held if name.startswith("old/")]
    with pytest.raises(InputError, match="held out every image that was named"):
        train(few, out, steps=3, resume=True)
    few += [path for path in sorted(old.glob("*.npy")) if path not in few][:1]
    prior = train(few, out, steps=3, resume=True)
    assert prior_info(prior).training["real_images"] == told["real_images"]
    names = history.names(read_checkpoint(out)["facts"]) or {}
    assert held <= set(names["held_out"])
    assert not held & set(names["learned"])


def test_a_checkpoint_without_names_is_resumed(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train([stack(3)], out, steps=1, settings=TINY)
    state = read_checkpoint(out)
    del state["facts"]["names"], state["facts"]["labels"]
    torch.save(state, out / CHECKPOINT)
    prior = train([stack(2)], out, steps=2, resume=True)
    assert prior_info(prior).training["groups"]["arrays"]["images"] == 3


def test_pixel_sizes_that_differ_are_none() -> None:
    found = collect([stack(1)])
    facts: dict[str, Any] = {"pixel_size": 0.1, "training": {"real_images": 2}}
    history.remember(facts, found)
    found.pixel_sizes = {0.101}
    history.add(facts, found, train_module.Mixture())
    assert facts["pixel_size"] == 0.1
    found.pixel_sizes = {0.2}
    history.add(facts, found, train_module.Mixture())
    assert facts["pixel_size"] is None


def test_licence_and_credits_of_the_start_come_along(tmp_path: Path) -> None:
    first = train(
        *([], tmp_path / "a"), steps=1, settings=TINY, licence="CC-BY-4.0", credits_text="By Ada."
    )
    quiet = train([], tmp_path / "b", steps=1, settings=TINY, start=first)
    assert prior_info(quiet).licence == "CC-BY-4.0"
    assert "## Images\n\nBy Ada.\n" in (quiet / "README.md").read_text(encoding="utf-8")
    named = train(
        *([], tmp_path / "c"),
        **{"steps": 1, "settings": TINY, "start": quiet},
        **{"licence": "MIT", "credits_text": "By Bob."},
    )
    assert prior_info(named).licence == "MIT; of the prior it went on from: CC-BY-4.0"
    card = (named / "README.md").read_text(encoding="utf-8")
    assert card.index("By Bob.") < card.index("By Ada.") < card.index("## Use with care")
    again = train([], tmp_path / "c", steps=2, resume=True, licence="BSD")
    assert prior_info(again).licence == "BSD; of the prior it went on from: CC-BY-4.0"
    shipped = history.start_labels(FOLDER)
    assert shipped["licence"] == prior_info(FOLDER).licence
    assert "NEUBIAS" in shipped["credits"]
    assert "Use with care" not in shipped["credits"]


@pytest.mark.parametrize("saved", [True, False])
def test_a_stopped_run_says_what_is_left(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    saved: bool,
) -> None:
    def stop(self: Loop) -> None:
        if saved:
            self.trainer.save()
        raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "run", stop)
    quick = "--batch 2 --size 16 --workers 0 --channels 8 --precision float32 --steps 5"
    assert main(["train", "--synthetic", "-o", str(tmp_path / "run"), *quick.split()]) == 130
    told = capsys.readouterr().err
    assert ("--resume` goes on from its checkpoint" in told) == saved
    assert ("nothing was saved" in told) == (not saved)


def test_a_run_can_be_told_to_finish_before_its_first_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("")
    assert main(["train", "-o", str(tmp_path), "--finish"]) == 0
    assert (tmp_path / loop.FINISH).exists()


class Dead:
    """A loader whose processes end as they begin."""

    text = "DataLoader worker (pid(s) 7) exited unexpectedly"

    def __init__(self, patches: Patches, num_workers: int, **more: object) -> None:
        self.patches, self.workers = patches, num_workers

    def __iter__(self) -> Any:
        if self.workers:
            raise RuntimeError(self.text)
        return iter(self.patches)


def test_processes_that_cannot_begin_are_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "DataLoader", Dead)
    told: list[str] = []
    patches = Patches([], 2, 8, pool=2, large=0)
    feeder = Feeder(patches, 3, torch.device("cpu"), say=told.append)
    assert feeder.take()[0].shape == (2, 1, 8, 8)
    assert (feeder.workers, feeder.limit) == (0, 0)
    assert len(told) == 1
    assert '`if __name__ == "__main__":`' in told[0]
    monkeypatch.setattr(Dead, "text", "Caught RuntimeError in DataLoader worker process 0.")
    with pytest.raises(RuntimeError, match="Caught"):
        Feeder(patches, 3, torch.device("cpu"))


def test_a_process_that_imports_the_script_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = train_module.multiprocessing.current_process()
    monkeypatch.setattr(process, "_inheriting", True, raising=False)
    with pytest.raises(InputError, match='put the call under `if __name__ == "__main__":`'):
        train([], tmp_path / "run", steps=1, settings=TINY)


@pytest.mark.parametrize(
    ("threads", "count", "side", "piece"),
    [
        (2, 8, 16, 4),  # as many as were asked for
        (2, 2, 32, 1),  # twice the side: a quarter of them, and a core each
        (4, 8, 16, 2),  # a share for every thread
        (16, 64, 16, 4),
        (16, 16, 32, 1),
        (1, 2, 32, 1),
        (2, 9, 16, 4),
    ],
)
def test_every_thread_gets_a_piece(threads: int, count: int, side: int, piece: int) -> None:
    pieces = Pieces(DenoiserNetwork((8,)), threads, 4, side=16)
    try:
        assert pieces.piece_of(count, side) == piece
    finally:
        pieces.close()
