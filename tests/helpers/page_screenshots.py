"""Screenshots of the page of `aloe serve` over scripted replies.

`PYTHONPATH=.:tests python tests/helpers/page_screenshots.py FOLDER` writes them; `talk-1280-light.png` with 64 colours
is docs/chat.png.
"""

import sys
from pathlib import Path

from helpers.streaming_server import StreamingServer
from helpers.viewer_browser import chromium, size, until

SCREENS = {
    "talk": "showSettings(false)",
    "settings": "showSettings(true)",
    "belief": "askBelief()",
    "help": "$('help').showModal()",
}


def hold(driver):
    """Two turns, a second sample and a branch."""

    def done(script, *arguments):
        driver.execute_script(script, *arguments)
        until(driver, "state.running.size === 0")

    driver.execute_script("$('seed').value = '7'")
    done("field.value = arguments[0]; send()", "I just moved to a small town by the sea. What could I do this weekend?")
    driver.execute_script("pickByKey(1)")
    done("field.value = arguments[0]; send()", "I like quiet places and old books.")
    done("sampleAgain(talk().nodes.get(state.turn))")
    driver.execute_script("pickByKey(0)")
    done("branch([...talk().nodes.values()][0], arguments[0])", "I just moved to a big city. What now?")
    driver.execute_script("visit('n5', false); $('talk').scrollTop = 0; document.activeElement.blur()")


def main(folder):
    Path(folder).mkdir(parents=True, exist_ok=True)
    with StreamingServer() as server, chromium() as driver:
        size(driver, 1280, 900)
        driver.get(server.http.url)
        until(driver, "document.querySelector('#model-a').value")
        hold(driver)
        for name, script in SCREENS.items():
            driver.execute_script(script)
            until(driver, "asking === null")
            for scheme in ("light", "dark"):
                features = [{"name": "prefers-color-scheme", "value": scheme}]
                driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
                for width, height in ((1280, 900), (390, 844)):
                    size(driver, width, height, mobile=width < 500)
                    driver.save_screenshot(f"{folder}/{name}-{width}-{scheme}.png")
        driver.execute_script("state.talks = []")


if __name__ == "__main__":
    main(sys.argv[1])
