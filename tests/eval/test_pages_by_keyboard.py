"""Report and comparison in a headless Chromium, opened from disk: by keyboard, narrow and wide, dark and printed."""

import pytest

pytest.importorskip("selenium", reason="selenium is not installed")

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from aloe_jax.cli.arguments import STAGES
from eval.compare.comparison import compare
from eval.compare.page import render
from eval.compare.sources import read_sources
from eval.report import write_report
from helpers import viewer_browser
from helpers.synthetic_run import write_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (viewer_browser.CHROMIUM and viewer_browser.CHROMEDRIVER),
        reason="chromium and chromedriver are not installed (apt-get install chromium chromium-driver)",
    ),
]
STOPS = "document.querySelectorAll('summary, .scroll')"
# Of what has the focus: its tag, whether an outline shows it, and whether it can be scrolled sideways.
FOCUS = """
const it = document.activeElement, style = getComputedStyle(it);
const outlined = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0;
return [it.tagName, outlined, it.scrollWidth > it.clientWidth];
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The addresses of a report and of a comparison."""
    run = write_run(tmp_path_factory.mktemp("pages") / "run")
    page = run / "compare.html"
    page.write_text(render(compare(read_sources([str(run)]))))
    return [f"file://{path}" for path in (write_report(run, stages=STAGES), page)]


@pytest.fixture(scope="module")
def driver():
    with viewer_browser.chromium() as driver:
        yield driver


def press(driver, key):
    ActionChains(driver).send_keys(key).perform()


def emulate(driver, media="", scheme="light"):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("which", [0, 1], ids=["report", "compare"])
def test_everything_is_reached_shown_and_worked_by_keys(driver, pages, which, width):
    """Tab reaches summaries and tables in order with a visible focus; Enter and Space open and close; a table that is
    wider than its place scrolls with the arrow keys; nothing is wider than the page."""
    viewer_browser.size(driver, width, 844, mobile=width < 500)
    emulate(driver)
    driver.get("about:blank")
    driver.get(pages[which])
    opened = scrolled = 0
    last = -1
    for _ in range(14):
        press(driver, Keys.TAB)
        tag, outlined, wide = driver.execute_script(FOCUS)
        if tag == "BODY":  # past the last stop
            break
        assert outlined, tag
        place = driver.execute_script(f"return [...{STOPS}].indexOf(document.activeElement)")
        assert place > last or place == -1, "Tab goes back"
        last = max(place, last)
        if tag == "SUMMARY":
            was = driver.execute_script("return document.activeElement.parentElement.open")
            for key, expected in ((Keys.ENTER, not was), (Keys.SPACE, was)):
                press(driver, key)
                assert driver.execute_script("return document.activeElement.parentElement.open") is expected
            opened += 1
        elif wide:
            press(driver, Keys.ARROW_RIGHT)
            viewer_browser.until(driver, "document.activeElement.scrollLeft > 0")
            scrolled += 1
    assert opened >= 2
    assert scrolled or width == 1280
    driver.execute_script("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    assert driver.execute_script("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.parametrize("which", [0, 1], ids=["report", "compare"])
def test_dark_and_printed(driver, pages, which):
    """In the dark text stays light on dark; printed, the folded figures are there and no table is cut off."""
    viewer_browser.size(driver, 1280, 844)
    emulate(driver, scheme="dark")
    driver.get(pages[which])
    ink, ground = driver.execute_script(
        "const style = getComputedStyle(document.body); return [style.color, style.backgroundColor]"
    )
    bright = [sum(map(float, text[text.index("(") + 1 : -1].split(",")[:3])) / 3 for text in (ink, ground)]
    assert bright[0] > 200
    assert bright[1] < 60
    emulate(driver, media="print")
    folded = (
        "[...document.querySelectorAll('details.printed > :not(summary)')].map((each) => each.checkVisibility("
        "{contentVisibilityAuto: true}) && each.getBoundingClientRect().height > 0)"
    )
    assert driver.execute_script(f"return {folded}")
    # The browser lays the page out for paper with its next frame.
    viewer_browser.until(driver, f"{folded}.every(Boolean)")
    shown = "[...document.querySelectorAll('.scroll')].every((each) => getComputedStyle(each).overflowX === 'visible')"
    assert driver.execute_script(f"return {shown}")
    emulate(driver)
