"""The rendered book in headless Chromium, opened from `file://`, as a reader opens it.

Needs `make book` first, and Playwright with a Chromium; skips with a reason where they are absent.
Screenshots of what failed are not kept: open the page named in the message.
"""

import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

SITE = Path(__file__).resolve().parents[2] / "_book"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PAGES = sorted(p.relative_to(SITE).as_posix() for p in SITE.rglob("*.html"))
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--allow-file-access-from-files"]
BACKGROUND = {"light": "rgb(255, 255, 255)", "dark": "rgb(27, 30, 35)"}

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium"),
    pytest.mark.skipif(not PAGES, reason="there is no _book/: run make book"),
]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(params=["light", "dark"])
def scheme(request):
    return request.param


@pytest.fixture
def page(browser, scheme):
    "A page of the book that notes every request and every error."
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.asked, page.wrong = [], []
    page.on("request", lambda r: page.asked.append(r.url))
    page.on("pageerror", lambda e: page.wrong.append(str(e)))
    page.on("console", lambda m: page.wrong.append(m.text) if m.type == "error" else None)
    page.on("requestfailed", lambda r: page.wrong.append(f"not loaded: {r.url}"))
    yield page
    context.close()


def visit(page, name):
    page.goto((SITE / name).as_uri(), wait_until="load")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_wide_and_narrow(page, scheme, name):
    visit(page, name)
    assert page.locator("h1").count() >= 1
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == BACKGROUND[scheme]
    images = page.evaluate("[...document.images].map(i => [i.getAttribute('src').slice(0, 60), "
                           "i.naturalWidth, i.alt])")
    assert not [i for i in images if not i[1]], "an image is empty"
    assert not [i for i in images if not (i[2] or "").strip()], "an image has no alt text"
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 844})
        over = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert over <= 0, f"{over} px wider than a window of {width} px"
    foreign = [u for u in page.asked if urlsplit(u).scheme not in ("file", "data", "blob")]
    assert not foreign and not page.wrong, (foreign, page.wrong)


def test_next_leads_through_the_whole_book(page):
    visit(page, "index.html")
    seen = [page.url]
    while page.locator("a[rel=next]").count():
        page.locator("a[rel=next]").first.click()
        page.wait_for_load_state()
        seen.append(page.url)
        assert len(seen) <= len(PAGES) + 1, "next goes round in circles"
    found = {Path(unquote(urlsplit(u).path)).relative_to(SITE).as_posix() for u in seen}
    assert found == set(PAGES)
    page.locator("a[rel=prev]").first.click()
    page.wait_for_load_state()
    assert page.url == seen[-2]


def test_search_finds_a_section_by_keyboard_alone(page):
    visit(page, "index.html")
    page.keyboard.press("/")
    page.wait_for_selector("#search-words:focus")
    page.keyboard.type("back through time")
    page.wait_for_selector("#search-found a")
    texts = page.locator("#search-found a").all_inner_texts()
    assert any("Back through time" in t for t in texts)
    page.keyboard.press("Escape")
    page.wait_for_function("!document.querySelector('#search').open"
                           " && document.activeElement.id !== 'search-words'")
    page.wait_for_timeout(300)  # the dialog gives the focus back
    page.keyboard.press("/")
    page.wait_for_selector("#search-found a")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert "06-recurrent-networks.html#" in page.url
    assert not page.wrong


def test_the_skip_link_comes_first_and_works(page):
    visit(page, "nbs/06-recurrent-networks.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_a_solution_is_folded_until_it_is_opened(page):
    visit(page, "nbs/04-learning.html")
    folded = page.locator("details:has(> summary:has-text('Solution'))")
    assert folded.count() >= 4
    assert all(folded.nth(i).get_attribute("open") is None for i in range(folded.count()))
    folded.first.locator("> summary").focus()
    page.keyboard.press("Enter")
    assert folded.first.get_attribute("open") is not None


def test_a_screen_reader_finds_its_way(page):
    visit(page, "nbs/06-recurrent-networks.html")
    tree = page.locator("body").aria_snapshot()
    for landmark in ("banner", "navigation \"Chapters\"", "main", "contentinfo"):
        assert landmark in tree, f"no {landmark}"
    assert re.search(r'heading "\d+ +Recurrent networks" \[level=1\]', tree)
    assert page.locator("main math").count() > 20
    assert page.locator("main math:not(:has(annotation))").count() == 0, "a formula without TeX"


def test_the_theme_is_remembered(page, scheme):
    visit(page, "index.html")
    other = {"light": "dark", "dark": "light"}[scheme]
    page.locator("#theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == BACKGROUND[other]
    visit(page, "nbs/03-gradients.html")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == BACKGROUND[other]


def test_the_menu_opens_on_a_narrow_screen(page):
    page.set_viewport_size({"width": 390, "height": 844})
    visit(page, "index.html")
    chapter = page.locator("nav.side a", has_text="Gradients")
    assert not chapter.is_visible()
    page.locator("#menu").click()
    assert chapter.is_visible()
    chapter.click()
    page.wait_for_load_state()
    assert page.url.endswith("nbs/03-gradients.html")


CONTRAST = """() => {
  const rgb = c => { const n = c.match(/[\\d.]+/g).map(Number);
    return c.startsWith('color(') ? [...n.slice(0, 3).map(v => v * 255), ...n.slice(3)] : n; };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = e => { for (; e; e = e.parentElement) {
    const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0.99) return c; }
    return [255, 255, 255]; };
  const poor = new Set();
  for (const e of document.querySelectorAll('body *')) {
    if (e.closest('svg, math') || !e.checkVisibility()) continue;
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    const a = light(rgb(getComputedStyle(e).color)), b = light(behind(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.add(`${e.tagName}.${e.className} ${ratio.toFixed(2)}`);
  }
  return [...poor];
}"""


@pytest.mark.parametrize("name", ["index.html", "nbs/06-recurrent-networks.html"])
def test_text_has_enough_contrast(page, name):
    visit(page, name)
    assert page.evaluate(CONTRAST) == []
