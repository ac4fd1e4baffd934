"""Where the text that a benchmark makes of its JSON goes: to a page, or to stdout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cyclopts import App


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


def markdown_command(app: App, table: Callable[[dict[str, Any]], str], mark: str) -> None:
    """Give a benchmark the command ``markdown FILE.json [--into PAGE.md]``.

    Parameters
    ----------
    app
        The benchmark's.
    table
        Makes Markdown of the JSON of a run.
    mark
        Of the place in a page.
    """

    def markdown(results: Path, /, *, into: Path | None = None) -> None:
        """Print the table as Markdown, or put it into a page between its marks.

        Parameters
        ----------
        results
            JSON of a run.
        into
            Page with two lines of comments, "MARK" and "end of MARK".
        """
        to_page(table(json.loads(results.read_text(encoding="utf-8"))), into, mark)

    markdown.__doc__ = str(markdown.__doc__).replace("MARK", mark)
    app.command(markdown)
