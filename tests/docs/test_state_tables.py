from __future__ import annotations

import pytest

from docs.state_tables import DOCS, PAGES, render


@pytest.mark.parametrize("name", PAGES)
def test_the_tables_of_the_pages_are_those_of_the_code(name: str) -> None:
    page = (DOCS / name).read_text(encoding="utf-8")
    assert render(page) == page, "run `python -m docs.state_tables`"
