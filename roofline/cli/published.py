"""`roofline check --docs`: the marked tables of Markdown files, and what is said of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roofline.cli.steps import many, taken
from roofline.cli.terminal import note, out, out_json, painter
from roofline.errors import UsageError
from roofline.views import files
from roofline.views import published as view

if TYPE_CHECKING:
    from roofline.gate.published import Checked


def tables(
    named: Sequence[Path],
    given: Mapping[str, Any],
    *,
    only: Sequence[str],
    output: Sequence[Path],
    update: bool,
    json: bool,
    github: bool,
    cache: bool,
    jobs: int | None,
    failed: Callable[[Exception], None],
) -> None:
    """Check them (`only` models of these names or patterns), and with `update` mend the cells in place; `output` are reports.

    Raises a RooflineError where one does not hold.
    """
    from roofline.gate import published

    if not named:
        raise UsageError("--docs: name the files, such as roofline check --docs README.md docs/*.md")
    targets = view.targets(output)
    pages = [published.read(path, given, cache=cache) for path in published.pages(named)]
    if not any(page.asked for page in pages):
        raise UsageError(
            f"--docs: no cell of a marked table in {named[0]}{' ...' if len(named) > 1 else ''}; "
            f"put {published.EXAMPLE} on the line above a table"
        )
    pages = published.chosen(pages, only)
    answers = many([one.request for page in pages for one in page.asked], jobs)
    by_page = [
        [cell for one in page.asked for cell in published.checked(one, lambda: taken(answers), failed)] for page in pages
    ]
    found = [cell for each in by_page for cell in each]
    new = {page.path: published.text_of(page, each) for page, each in zip(pages, by_page, strict=True)} if update else {}
    changed = {page.path: new[page.path].encode() for page in pages if update and new[page.path] != page.text}
    document = view.document(found, [str(path) for path in changed])
    files.write_all(changed | view.written(targets, document, found))
    if json:
        out_json(document)
    else:
        out(view.render(found, painter()))
        if github or os.environ.get("GITHUB_ACTIONS") == "true":
            out(view.github(found))
    for path in changed:
        note(f"wrote {path}")
    _end(found if not update else [c for c in found if c.error], ", ".join(map(str, named[:3])))


def _end(found: Sequence[Checked], where: str) -> None:
    """Raises what the cells come to."""
    from roofline.analysis.limits import of_code
    from roofline.gate import published

    if code := published.exit_code(found):
        failed = sum(bool(c.error) for c in found)
        said = f"{failed} cells not checked" if failed == len(found) else view.summary(found)
        raise of_code(code, f"{where}: {said}{'' if failed else '; --update writes what is computed'}")
