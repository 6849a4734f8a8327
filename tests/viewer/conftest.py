"""A small map, and a browser where there is one."""

from __future__ import annotations

import shutil

import pytest
from map_pages import write_map


@pytest.fixture
def map_files(tmp_path):
    return write_map(tmp_path)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """A browser without a window; whatever it downloads is in ``downloads``."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("Chromium and its chromedriver are not installed")
    folder = tmp_path_factory.mktemp("downloads")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(folder)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.chrome.service.Service(driver)
    with webdriver.Chrome(options=options, service=service) as chromium:
        chromium.set_window_size(1400, 900)
        chromium.downloads = folder
        yield chromium
