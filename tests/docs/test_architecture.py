from docs.state_tables import PAGE, render


def test_the_tables_of_the_architecture_page_are_those_of_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert render(page) == page, "run `python -m docs.state_tables`"
