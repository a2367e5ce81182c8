"""The page in a real Chromium."""

import json
import shutil
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Page:
    """A page that is open, and what a person does with it."""

    def __init__(self, driver, downloads):
        self.driver = driver
        self.downloads = downloads

    def open(self, address):
        self.driver.get(address)
        self.wait("document.documentElement.dataset.ready === 'yes'")
        return self

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition, seconds=15):
        end = time.monotonic() + seconds
        while not self.js(f"return Boolean({condition})"):
            assert time.monotonic() < end, f"never true: {condition}"
            time.sleep(0.05)

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def card(self, row):
        return self.find(f'.card[data-row="{row}"]')

    def name_box(self, row):
        return self.find(f'.card[data-row="{row}"] .name')

    def click(self, selector):
        self.js("arguments[0].scrollIntoView({block: 'center'}); arguments[0].click()", self.find(selector))

    def button(self, row, text):
        for button in self.card(row).find_elements("css selector", "button"):
            if button.text == text:
                self.js("arguments[0].scrollIntoView({block: 'center'})", button)
                button.click()
                return
        raise AssertionError(f"there is no button {text}")

    def downloaded(self, name):
        path = self.downloads / name
        end = time.monotonic() + 15
        while not path.exists() or not path.stat().st_size:
            assert time.monotonic() < end, f"{name} was not downloaded"
            time.sleep(0.05)
        text = path.read_text(encoding="utf-8-sig")
        path.unlink()
        return text

    def labels(self):
        self.click("#save")
        return json.loads(self.downloaded("conceptseg-labels.json"))

    def pixel(self, selector, x, y):
        """Red, green, blue of a canvas at a place given as shares of its width and height."""
        script = """const c = document.querySelector(arguments[0]);
            return [...c.getContext('2d').getImageData(c.width * arguments[1], c.height * arguments[2], 1, 1).data]"""
        return self.js(script, selector, x, y)[:3]

    def say_nothing(self):
        """Empty the line that says what happened, to wait for the next one."""
        self.js("say('')")

    def errors(self, *, status=None):
        """What the console holds, without answers of this status.

        That Chromium does not ask a driver before it leaves a page is none of it.
        """
        log = self.driver.get_log("browser")
        expected = f"the server responded with a status of {status} "
        return [
            e for e in log if e["level"] == "SEVERE" and e["source"] != "intervention" and expected not in e["message"]
        ]


def start(downloads):
    """A Chromium without a window; its driver is the system's, nothing is downloaded."""
    # Where selenium is missing, the tests are collected and counted all the same.
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = next(path for name in NAMES if (path := shutil.which(name)))
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1500,1000"):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
