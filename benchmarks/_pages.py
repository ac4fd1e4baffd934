"""Where the text that a benchmark makes of its JSON goes: to a page, or to stdout."""

from __future__ import annotations

from pathlib import Path


def to_page(text: str, page: Path | None, mark: str) -> None:
    """Put text between the lines <!-- MARK --> and <!-- end of MARK --> of a page, or print it.

    Parameters
    ----------
    text
        Markdown.
    page
        The page; printed where None.
    mark
        Of the place.
    """
    if page is None:
        print(text)
        return
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    whole = page.read_text(encoding="utf-8")
    if begin not in whole or end not in whole:
        raise SystemExit(f"{page} has no lines {begin} and {end} to put the table between")
    before, rest = whole.split(begin, 1)
    after = rest.split(end, 1)[1]
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
