"""The site as a reader without network opens it: from disk, in Chromium, wide and on a phone, light and dark."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
PAGES = ("index", "tutorials/your_environment", "concepts/dreamerv3", "metrics", "reference/options", "api")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", "docs", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return folder


@pytest.fixture(
    params=[(1490, "light"), (1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")], ids=str
)
def reader(request, browser):
    """A tab without network, and what went wrong in it."""
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
    page, wrong = context.new_page(), []
    page.on("console", lambda said: said.type in ("error", "warning") and wrong.append(said.text))
    page.on("requestfailed", lambda asked: wrong.append(asked.url))
    page.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or wrong.append(asked.url))
    yield page, wrong, scheme
    context.close()


def test_pages_are_whole_and_fit_and_keep_to_the_disk(site, reader):
    page, wrong, scheme = reader
    for name in PAGES:
        page.goto((site / f"{name}.html").as_uri())
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), name
        broken = (
            "[...document.images].filter(image => !image.complete || !image.naturalWidth).map(i => i.src)"
        )
        assert page.evaluate(broken) == [], name
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        dark = sum(map(int, re.findall(r"\d+", ground)[:3])) < 3 * 128
        assert dark == (scheme == "dark"), f"{name}: {ground}"
    assert page.goto((site / "index.html").as_uri()) and page.locator("article img").count() >= 1
    assert not wrong


def test_the_search_shows_where_the_words_stand(site, reader):
    page, wrong, _ = reader
    page.goto((site / "index.html").as_uri().replace("index.html", "search.html?q=unimix"))
    page.wait_for_selector(".search li .context, .search li p")
    found = page.locator(".search li")
    assert found.count() >= 2 and "unimix" in found.first.inner_text().lower()
    assert not wrong
