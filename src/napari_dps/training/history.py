"""What a run has behind it: the prior it went on from, and what it did before it was resumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..priors._folder import CARD, NetworkConfig, prior_hash, prior_info
from .data import Mixture
from .images import Collection
from .settings import Settings

LONGEST = 4000
"""Characters that a prior folder has room for in its name and its licence."""


def check_labels(facts: Mapping[str, Any]) -> None:
    """Refuse a name, licence or credits that the prior folder cannot take.

    Raises
    ------
    InputError
        If one is no text, or too long.
    """
    told = facts.get("labels", {})
    for key, value in told.items():
        if not isinstance(value, str):
            raise InputError(f"{key} = {value!r} is not allowed, give text")
    for key, value in (("name", told.get("name", "")), ("licence", licence(facts))):
        if len(value) > LONGEST:
            raise InputError(
                f"The {key} has {len(value)} characters, with that of the prior the run goes on "
                f"from: give {LONGEST} at most, such as the licence's name."
                if key == "licence" and "start_labels" in facts
                else f"The {key} has {len(value)} characters: give {LONGEST} at most."
            )


def licence(facts: Mapping[str, Any]) -> str:
    """Return the licence of a run's weights: what it was told, then that of where it began."""
    own, start = _labels(facts, "licence")
    if not own or not start or start in own:
        return own or start
    return f"{own}; of the prior it went on from: {start}"


def credits_of(facts: Mapping[str, Any]) -> str:
    """Return whose images a run's weights were trained on, from its beginnings on."""
    own, start = _labels(facts, "credits")
    if not own or not start or start in own:
        return own or start
    return f"{own}\n\nThe prior that this one went on from:\n\n{start}"


def _labels(facts: Mapping[str, Any], key: str) -> tuple[str, str]:
    own, start = facts.get("labels", {}), facts.get("start_labels", {})
    return own.get(key, "").strip(), start.get(key, "").strip()


def start_labels(prior: Path) -> dict[str, str]:
    """Return licence and credits of a prior that a run goes on from."""
    return {"licence": prior_info(prior).licence, "credits": _stated_credits(prior)}


def _stated_credits(prior: Path) -> str:
    """Return what a model card says of images: its part of that name, up to the next of ours."""
    card = prior / CARD
    if not card.is_file():
        return ""
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines()
    if "## Images" not in lines:
        return ""
    part = lines[lines.index("## Images") + 1 :]
    ends = [part.index(title) for title in ("## Curves", "## Use with care") if title in part]
    return "\n".join(part[: min(ends, default=len(part))]).strip()


def check_resumed(
    state: Mapping[str, Any], given: Settings | Mapping[str, Any], start: Path | None
) -> None:
    """Refuse what a run that is resumed cannot take up any more.

    Raises
    ------
    InputError
        If the start or the network's widths differ from those of the run.
    """
    begun = state["facts"]["training"].get("start")
    if start is not None and prior_hash(start) != (begun or {}).get("hash"):
        whence = f"from the prior {begun.get('hash')}" if begun else "from nothing"
        raise InputError(
            f"The run to be resumed began {whence}, and {str(start)!r} is another prior: leave the "
            "start (--from) out, or begin a run in another folder."
        )
    if isinstance(given, Settings):
        # Widths that were never asked for stand in it too; a start makes them void.
        widths = None if begun else given.channels
    else:
        widths = given.get("channels")
    check_widths(widths, NetworkConfig.model_validate(state["config"]), "the run to be resumed")


def check_widths(widths: Any, network: NetworkConfig, of: str) -> None:
    """Refuse widths that differ from those of a network that is there.

    Raises
    ------
    InputError
        With both.
    """
    if widths is not None and tuple(widths) != network.channels:
        raise InputError(
            f"channels = {tuple(widths)} are not those of {of}, {network.channels}: leave them "
            "out, or begin a run in another folder."
        )


def names(facts: Mapping[str, Any]) -> dict[str, list[str]] | None:
    """Return the names of all images that a run held out and learned from, as far as it says so."""
    known = facts.get("names")
    if known is None:
        return None
    return {part: [name for group in by.values() for name in group] for part, by in known.items()}


def remember(facts: dict[str, Any], found: Collection) -> None:
    """Add the names of the images to what the run knows; the checkpoint keeps them.

    A file that was held out once must not be learned from when the run is resumed.
    """
    known = facts.setdefault("names", {"held_out": {}, "learned": {}})
    for part, sources in (("held_out", found.held_out), ("learned", found.train)):
        for source in sources:
            known[part].setdefault(source.group, []).append(source.name)
        for group, every in known[part].items():
            known[part][group] = list(dict.fromkeys(every))


def add(facts: dict[str, Any], found: Collection, mixture: Mixture) -> None:
    """Add what a resumed run learns from to what it says of its data; after :func:`remember`."""
    training = facts["training"]
    training["mixture"] = asdict(mixture)
    if not found.train:
        return
    had_images = bool(training.get("real_images"))
    groups = dict(training.get("groups", {}))
    for group, fact in found.facts().items():
        before = groups.get(group, {})
        for count, part in (("images", "learned"), ("held_out", "held_out")):
            every = len(facts["names"][part].get(group, []))
            fact[count] = max(fact[count], before.get(count, 0), every)
        groups[group] = fact
    training["groups"] = groups
    for total, count in (("real_images", "images"), ("held_out_images", "held_out")):
        every = sum(fact[count] for fact in groups.values())
        training[total] = max(training.get(total, 0), every)
    size = facts.get("pixel_size")
    if not had_images:
        facts["pixel_size"] = found.pixel_size
    elif size is not None:
        same = found.pixel_size is not None and abs(found.pixel_size / size - 1.0) <= 0.02
        facts["pixel_size"] = size if same else None
