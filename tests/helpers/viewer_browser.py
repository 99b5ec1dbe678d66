"""`aloe view` as a process of its own, and a headless Chromium that opens its page.

`PYTHONPATH=.:tests python tests/helpers/viewer_browser.py DIR FOLDER` writes screenshots of the viewer of DIR;
`turn-1280-light.png` of `viewer_trees.py DIR 40 6 3` is docs/viewer.png, with 64 colours.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

from helpers.aloe_command import ALOE, ROOT

WAIT = 20  # seconds that the page may take
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@contextlib.contextmanager
def chromium():
    """A browser with a profile of its own that keeps the messages on its console."""
    profile = tempfile.mkdtemp(prefix="aloe-chromium-")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, Service(CHROMEDRIVER))
    try:
        yield driver
    finally:
        driver.quit()
        shutil.rmtree(profile, ignore_errors=True)


@contextlib.contextmanager
def viewer(directory):
    """The address of an `aloe view` that runs on a free port."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", ALOE, "view", str(directory)], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        said = process.stdout.readline()
        assert " at http://" in said, said
        yield said.split(" at ")[1].split(";")[0]
    finally:
        process.terminate()
        assert process.wait(WAIT) == 0
        process.stdout.close()


def size(driver, width, height, mobile=False):
    """Set the viewport of the page; a window cannot be as narrow as a phone."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def until(driver, script, every=0.01):
    """The first true value of a JavaScript expression, which is evaluated every `every` seconds."""
    return WebDriverWait(driver, WAIT, poll_frequency=every).until(lambda page: page.execute_script(f"return {script}"))


def visit(driver, address, name=""):
    """Load the page, with a tree if one is named, and wait for it."""
    driver.get("about:blank")  # an address that differs only after # is not loaded again
    driver.get(f"{address}/#{name}" if name else address)
    until(driver, "document.querySelectorAll('.row').length")
    if name:
        until(driver, f"document.querySelector('#tree h1')?.textContent === {name!r}")


def main(directory, folder):
    Path(folder).mkdir(parents=True, exist_ok=True)
    with viewer(directory) as address, chromium() as driver:
        for scheme in ("light", "dark"):
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            for width, height in ((1280, 900), (390, 844)):
                size(driver, width, height, mobile=width < 500)
                visit(driver, address)
                driver.save_screenshot(f"{folder}/list-{width}-{scheme}.png")
                name = driver.execute_script("return state.trees[0].id")
                visit(driver, address, name)
                driver.save_screenshot(f"{folder}/tree-{width}-{scheme}.png")
                driver.execute_script("setBlind(true)")
                driver.save_screenshot(f"{folder}/blind-{width}-{scheme}.png")
                driver.execute_script("setBlind(false); goToTurn(2)")
                driver.save_screenshot(f"{folder}/turn-{width}-{scheme}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
