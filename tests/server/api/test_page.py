from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from server.api.page import NOT_RECORDED, PAGE, RECORDED, add_page


@pytest.mark.parametrize(
    ("recording", "said", "unsaid"), [(False, NOT_RECORDED, RECORDED), (True, RECORDED, NOT_RECORDED)]
)
def test_the_page_tells_whether_it_is_recorded(recording: bool, said: str, unsaid: str) -> None:
    app = FastAPI()
    add_page(app, recording=recording, directory=PAGE)
    for path in ("/", "/index.html", "/%2e/index.html", "/%2e/", "/duel.html", "/%2e/duel.html"):
        page = TestClient(app).get(path).text
        assert said in page
        assert unsaid not in page


def test_the_page_s_files_are_served(tmp_path: Path) -> None:
    app = FastAPI()
    add_page(app, recording=False)
    client = TestClient(app)
    for name in sorted(path.name for path in PAGE.iterdir() if path.is_file()):
        assert client.get(f"/{name}").status_code == 200
    assert client.get("/nothing.js").status_code == 404
    assert client.head("/").status_code == 200
    assert client.post("/").status_code == 405
