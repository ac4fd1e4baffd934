"""The forms: exact defaults, exact numbers, both ways between recipe and form."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from napari_dps.arrays import ArrayRef
from napari_dps.components import GROUPS, Component, ForwardModel, registry
from napari_dps.errors import InputError, RecipeError
from napari_dps.fields import FieldInfo, describe_fields

pytestmark = pytest.mark.usefixtures("qapp")


def needs_input(cls: type[Component]) -> bool:
    return any(info.required for info in describe_fields(cls))


@pytest.fixture
def make_form(qtbot: Any) -> Any:
    from napari_dps.plugin.forms import ComponentForm

    def make(cls: type[Component], **more: Any) -> Any:
        form = ComponentForm(cls, **more)
        qtbot.addWidget(form)
        return form

    return make


@pytest.fixture
def make_box(qtbot: Any) -> Any:
    from napari_dps.plugin.number_box import NumberBox

    def make(*args: Any, **more: Any) -> Any:
        box = NumberBox(*args, **more)
        qtbot.addWidget(box)
        return box

    return make


def type_into(qtbot: Any, box: Any, text: str) -> None:
    box.lineEdit().selectAll()
    qtbot.keyClicks(box.lineEdit(), text)


@pytest.mark.parametrize("group", GROUPS)
def test_untouched_form_gives_the_defaults(make_form: Any, group: str) -> None:
    for cls in registry(group).values():
        form = make_form(cls)
        if needs_input(cls):
            with pytest.raises(RecipeError, match="is empty"):
                form.value()
        else:
            assert form.value() == cls()


@pytest.mark.parametrize("group", GROUPS)
def test_every_field_is_explained(make_form: Any, group: str) -> None:
    for kind, cls in registry(group).items():
        form = make_form(cls)
        assert list(form.editors) == [info.name for info in describe_fields(cls)]
        for info in describe_fields(cls):
            assert info.description, f"{kind}.{info.name} says nothing about itself"
            assert html.escape(info.description) in form.editors[info.name].toolTip()


def test_a_required_field_left_empty_is_told(make_form: Any) -> None:
    class Needy(ForwardModel):
        """Needs a mask."""

        title: ClassVar[str] = "Needy"
        kind: Literal["needy"] = "needy"
        mask: ArrayRef

    with pytest.raises(RecipeError, match="choose a layer or a file"):
        make_form(Needy).value()


def other_value(info: FieldInfo) -> Any:
    """Return an allowed value that is not the default and has many digits."""
    if info.annotation is bool:
        return not info.default
    if info.annotation == "choice":
        return info.choices[-1]
    if info.annotation is str:
        return "some/path"
    if info.annotation == "array":
        return ArrayRef(np.eye(3))
    if info.annotation not in (int, float):
        return info.default
    low = 0.0 if info.minimum is None else info.minimum
    high = low + 10 if info.maximum is None else info.maximum
    value = low + (high - low) * 0.123456789012345
    return min(int(low) + 2, int(high)) if info.annotation is int else value


@pytest.mark.parametrize("group", GROUPS)
def test_form_keeps_what_it_is_given(make_form: Any, group: str) -> None:
    for cls in registry(group).values():
        form = make_form(cls)
        values = {info.name: other_value(info) for info in describe_fields(cls)}
        needed = {i.name: values[i.name] for i in describe_fields(cls) if i.required}
        for name, value in values.items():  # one at a time: some exclude each other
            try:
                component = cls(**{**needed, name: value})
            except ValueError:
                continue
            form.set_value(component)
            assert form.value() == component


@pytest.mark.parametrize("number", [0.00123456, 1 / 3, 1e-8, 2.5e-300, 123456789.123456])
def test_typed_numbers_keep_their_digits(make_box: Any, qtbot: Any, number: float) -> None:
    box = make_box(float)
    type_into(qtbot, box, repr(number))
    assert box.value() == number
    box._settle()
    assert box.value() == number
    assert float(box.lineEdit().text()) == number


def test_large_integers_stay_whole(make_box: Any, qtbot: Any) -> None:
    box = make_box(int, 0)
    type_into(qtbot, box, str(2**62 + 1))
    assert box.value() == 2**62 + 1


def test_out_of_range_is_refused_in_sight(make_box: Any, qtbot: Any) -> None:
    box = make_box(float, 0.0, 50.0, exclusive_minimum=True)
    box.set_value(2.0)
    for text in ("60", "0", "-3", "1e", "1e400"):
        type_into(qtbot, box, text)
        assert box.value() == 2.0
        assert box.lineEdit().styleSheet()
        box._settle()
        assert box.lineEdit().text() == "2"
        assert not box.lineEdit().styleSheet()
    qtbot.keyClicks(box.lineEdit(), "abc")
    assert box.lineEdit().text() == "2"


def test_steps_stay_within_bounds(make_box: Any) -> None:
    box = make_box(float, 0.0, 1.0, exclusive_minimum=True)
    box.set_value(0.3)
    box.stepBy(1)
    assert box.value() == 0.31
    box.stepBy(100)
    assert box.value() == 1.0
    whole = make_box(int, 1, 5)
    whole.set_value(5)
    whole.stepBy(1)
    assert whole.value() == 5


def test_gain_in_both_units(make_form: Any, qtbot: Any) -> None:
    cls = registry("noise")["poisson"]
    form = make_form(cls)
    editor = form.editors["gain"]
    editor.set_value(1 / 3)
    editor.units.setCurrentIndex(1)
    assert float(editor.box.lineEdit().text()) == pytest.approx(3)
    assert editor.value() == 1 / 3  # looking at it in another unit changes nothing
    type_into(qtbot, editor.box, "4")
    assert editor.value() == 0.25


def test_auto_and_back(make_form: Any) -> None:
    cls = registry("noise")["poisson-gaussian"]
    form = make_form(cls)
    assert form.value().gain == "auto"
    editor = form.editors["gain"]
    editor.check.setChecked(False)
    editor.inner.set_value(0.46)
    assert form.value().gain == 0.46
    editor.check.setChecked(True)
    assert form.value().gain == "auto"


def test_array_from_layer_or_file(qtbot: Any, tmp_path: Path) -> None:
    from types import SimpleNamespace

    from napari_dps.plugin.array_editor import ArrayEditor

    layers = {"mask": SimpleNamespace(data=np.eye(4))}
    editor = ArrayEditor("mask", lambda: layers)
    qtbot.addWidget(editor)
    assert editor.value() is None
    editor.refill()
    editor.source.setCurrentIndex(editor.source.findText("layer: mask"))
    np.testing.assert_array_equal(editor.value().load(), np.eye(4))

    layers.clear()
    with pytest.raises(InputError, match="gone"):
        editor.value()

    np.save(tmp_path / "psf.npy", np.ones((3, 3)))
    editor.set_value(str(tmp_path / "psf.npy"))
    assert editor.value() == ArrayRef(tmp_path / "psf.npy")
    editor.set_value(np.ones((2, 5)))
    assert editor.value().load().shape == (2, 5)
    editor.set_value(None)
    assert editor.value() is None


def test_chooser_switches_and_remembers(qtbot: Any) -> None:
    from napari_dps.plugin.forms import ComponentChooser

    chooser = ComponentChooser("forward")
    qtbot.addWidget(chooser)
    blur = registry("forward")["gaussian-blur"](sigma=3.25)
    chooser.set_value(blur)
    assert chooser.value() == blur
    chooser.set_value(registry("forward")["identity"]())
    assert chooser.value().kind == "identity"
    chooser.kinds.setCurrentIndex(chooser.kinds.findData("gaussian-blur"))
    assert chooser.value() == blur
