"""The page in Chromium: swipe, click, name, merge, download, and the legend put to use."""

from __future__ import annotations

import re
import time
from io import BytesIO

import numpy as np
import pytest
import rasterio
from map_pages import COLOURS, MODEL, label_values, write_map
from PIL import Image
from typer.testing import CliRunner

from geohp.cli.app import app
from geohp.legend.file import Legend
from geohp.raster.read.labels import open_labels
from geohp.vector.polygonize import polygonize
from geohp.viewer.view import view

ATTACKS = (
    "</script><script>document.title='taken'</script>",
    '"><img src=x onerror="document.title=\'taken\'">',
    "'; document.title='taken'; //",
    "<!--<script>{{ 7 * 7 }} ${document.title='taken'} \\u003cb\\u003e é 🌲",
)


class Browser:
    """What a person does with a page."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, page):
        self.driver.get(page.path.as_uri())
        return self

    def find(self, css):
        return self.driver.find_element("css selector", css)

    def all(self, css):
        return self.driver.find_elements("css selector", css)

    def type(self, label, text):
        """Name a cluster, and go on to the next field."""
        field = self.find(f"#cluster-{label} input[type=text]")
        field.clear()
        field.send_keys(text, "\t")

    def slide(self, css, value):
        """Give a slider, or a field of colour, a value."""
        script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
        self.driver.execute_script(script, self.find(css), value)

    def click(self, x, y):
        """Click the map at shares of its width and height."""
        chains = pytest.importorskip("selenium.webdriver.common.action_chains")
        canvas = self.find("#map")
        offset = (round((x - 0.5) * canvas.size["width"]), round((y - 0.5) * canvas.size["height"]))
        before = self.told
        chains.ActionChains(self.driver).move_to_element_with_offset(canvas, *offset).click().perform()
        return self.wait(lambda: self.told != before and self.told)

    @property
    def told(self):
        return self.find("#told").text

    @property
    def legend(self):
        """Cells of each row."""
        rows = self.all("#legend tbody tr")
        return [[cell.text for cell in row.find_elements("css selector", "th span:not(.swatch), td")] for row in rows]

    def colour(self, x, y):
        """Of the screen, where the map is at shares of its width and height; once it is drawn."""
        picture = np.asarray(Image.open(BytesIO(self.find("#stage").screenshot_as_png)).convert("RGB"), int)
        return picture[round(y * picture.shape[0]), round(x * picture.shape[1])]

    def wait(self, condition, seconds=10):
        end = time.monotonic() + seconds
        while not (answer := condition()):
            assert time.monotonic() < end, f"waited {seconds} s"
            time.sleep(0.05)
        return answer

    def wait_for_colour(self, place, colour, tolerance=14):
        self.wait(lambda: np.abs(self.colour(*place) - colour).max() <= tolerance)

    def download(self):
        for old in self.driver.downloads.iterdir():
            old.unlink()
        self.find("#download").click()
        file = self.driver.downloads / "legend.yaml"
        self.wait(file.exists)
        return file

    def complaints(self):
        return [entry["message"] for entry in self.driver.get_log("browser") if "favicon" not in entry["message"]]


@pytest.fixture
def browser(chromium):
    browser = Browser(chromium)
    yield browser
    assert browser.complaints() == []
    chromium.get("about:blank")


def rgb(label):
    return np.array([int(COLOURS[label][i : i + 2], 16) for i in (1, 3, 5)])


def dismiss(driver):
    """Leave a page that asks whether one means it."""
    driver.execute_script("document.getElementById('download').click()")


def test_swipe_and_opacity_show_the_image_or_the_map(map_files, browser):
    browser.open(view(*map_files))
    place = (0.42, 0.5)  # in the second stripe
    browser.slide("#opacity", 100)
    browser.slide("#swipe", 0)
    browser.slide("#cluster-1 input[type=color]", "#ff0000")
    browser.wait_for_colour(place, [255, 0, 0], 2)
    browser.slide("#swipe", 1000)
    browser.wait_for_colour(place, rgb(1))
    browser.slide("#swipe", 0)
    browser.slide("#opacity", 50)
    browser.wait_for_colour(place, rgb(1) / 2 + np.array([255, 0, 0]) / 2)
    dismiss(browser.driver)


def test_the_swipe_is_a_slider_for_the_keyboard(map_files, browser):
    browser.open(view(*map_files))
    before = int(browser.find("#swipe").get_attribute("value"))
    browser.find("#swipe").send_keys("\ue014\ue014")  # right arrow, twice
    assert int(browser.find("#swipe").get_attribute("value")) == before + 20


def test_a_click_tells_class_confidence_and_place(map_files, browser):
    browser.open(view(*map_files))
    upper = browser.click(0.4, 0.3)
    assert upper.startswith("class 1 · confidence 90 %")
    x, y = map(float, re.search(r"([\d.]+), ([\d.]+)$", upper).groups())
    assert 380025 < x < 380050
    assert 5799925 < y < 5800000
    assert browser.click(0.6, 0.7).startswith("class 2 · confidence 50 %")


def test_a_click_on_nothing_says_so(map_files, browser):
    browser.open(view(*map_files))
    canvas = browser.find("#map").size
    scale = 0.94 * min(canvas["width"] / 200, canvas["height"] / 150)
    x, y = (0.5 + (pixel - side / 2) * scale / whole for pixel, side, whole in (
        (10, 200, canvas["width"]), (10, 150, canvas["height"])))  # fmt: skip
    assert browser.click(x, y).startswith("no data")


def test_the_map_answers_the_keyboard(map_files, browser):
    browser.open(view(*map_files))
    canvas = browser.find("#map")
    length = browser.find("#length").text
    canvas.send_keys("+++")
    browser.wait(lambda: browser.find("#length").text != length)
    canvas.send_keys("\ue012\ue012\ue007")  # left arrow, twice, and Enter
    browser.wait(lambda: browser.told.startswith("class 1"))
    canvas.send_keys("0")
    browser.wait(lambda: browser.find("#length").text == length)


def test_names_merge_clusters_and_the_download_recodes_the_map(map_files, browser, tmp_path):
    labels, scene = map_files
    browser.open(view(labels, scene))
    assert len(browser.legend) == 4
    browser.type(0, "  water ")
    browser.type(3, "water")
    browser.type(1, 'a "wood": \\ é 🌲')
    rows = {row[0]: row[1:] for row in browser.legend}
    assert set(rows) == {"water", 'a "wood": \\ é 🌲', "class 2"}
    assert rows["water"][0] == "2 clusters"
    assert float(rows["water"][2]) == pytest.approx(100 * (7500 * 2 - 600) / (30000 - 600), abs=0.1)
    assert browser.find("#cluster-3 .merged").text == "One class with cluster 0."
    legend_file = browser.download()
    assert "3 classes" in browser.find("#status").text

    legend = Legend.read(legend_file)
    assert legend.model_sha256 == MODEL
    assert legend.labels == {0: 0, 1: 1, 2: 2, 3: 0}
    assert {entry.id: entry.name for entry in legend.classes} == {0: "water", 1: 'a "wood": \\ é 🌲', 2: "class 2"}
    assert {entry.id: entry.colour for entry in legend.classes}[0] == COLOURS[0]
    assert legend_file.read_text(encoding="utf-8") == browser.driver.execute_script(
        "return document.getElementById('yaml').textContent"
    )

    out = tmp_path / "named.tif"
    done = CliRunner().invoke(app, ["recode", str(labels), "--legend", str(legend_file), "-o", str(out)])
    assert done.exit_code == 0, done.output
    with open_labels(out) as raster:
        assert [entry.name for entry in raster.classes] == ["water", 'a "wood": \\ é 🌲', "class 2"]
    expected = label_values()[0]
    expected[expected == 3] = 0
    with rasterio.open(out) as dataset:
        np.testing.assert_array_equal(dataset.read(1), expected)
    assert set(polygonize(str(labels), legend=legend)["class_name"]) == {entry.name for entry in legend.classes}


def test_a_name_taken_back_gives_the_cluster_its_own_colour(map_files, browser):
    browser.open(view(*map_files))
    browser.type(0, "water")
    browser.type(3, "water")
    colour = browser.find("#cluster-3 input[type=color]")
    assert colour.get_attribute("value") == COLOURS[0]
    browser.type(3, "")
    assert colour.get_attribute("value") == COLOURS[3]
    assert len(browser.legend) == 4
    dismiss(browser.driver)


def test_a_class_can_be_hidden_and_an_example_shown(map_files, browser):
    browser.open(view(*map_files))
    browser.slide("#swipe", 0)
    browser.slide("#opacity", 100)
    browser.slide("#cluster-2 input[type=color]", "#ff0000")
    place = (0.57, 0.7)
    browser.wait_for_colour(place, [255, 0, 0], 2)
    box = next(row for row in browser.all("#legend tbody tr") if row.text.startswith("class 2"))
    box.find_element("css selector", "input").click()
    browser.wait_for_colour(place, rgb(2))
    browser.find("#cluster-2 .examples button").click()
    browser.wait(lambda: browser.told.startswith("class 2"))
    dismiss(browser.driver)


def test_whatever_names_hold_is_shown_as_text(tmp_path, browser):
    files = write_map(tmp_path, ATTACKS, stem="<b>&'\"{{7*7}}", scene="<img src=x onerror=alert(1)>.tif")
    frame = polygonize(str(files[0]))
    frame.to_file(tmp_path / "land.gpkg", layer="landcover")
    page = view(*files, polygons=tmp_path / "land.gpkg")
    browser.open(page)
    assert {row[0] for row in browser.legend} == set(ATTACKS)
    assert browser.driver.title == "<b>&'\"{{7*7}}.tif"
    assert browser.find("#title").text == "<b>&'\"{{7*7}}.tif"
    assert "<img src=x onerror=alert(1)>.tif" in browser.find("#about").text
    assert browser.all("img:not(.examples img)") == []
    assert f"polygon {ATTACKS[1]} " in browser.click(0.4, 0.3)
    named = Legend.read(browser.download())
    assert {entry.name for entry in named.classes} == set(ATTACKS)


def test_what_is_typed_is_text_as_well(map_files, browser):
    browser.open(view(*map_files))
    for label, text in enumerate(ATTACKS[:3]):
        browser.type(label, text)
    assert {row[0] for row in browser.legend} == {*ATTACKS[:3], "class 3"}
    assert browser.driver.title == "labels.tif"
    assert {entry.name for entry in Legend.read(browser.download()).classes} == {*ATTACKS[:3], "class 3"}


def test_the_page_asks_for_nothing(map_files, browser):
    browser.open(view(*map_files))
    browser.wait(lambda: browser.find("#length").text)
    asked = browser.driver.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [name for name in asked if not name.startswith(("data:", "blob:"))] == []
    fetched = browser.driver.execute_async_script(
        "const done = arguments[0]; fetch('data:,x').then(() => done('fetched'), (error) => done(String(error)))"
    )
    assert "Failed to fetch" in fetched
    assert any("Content Security Policy" in complaint for complaint in browser.complaints())


def test_a_narrow_window_has_everything_within_its_width(map_files, browser):
    browser.driver.set_window_size(500, 900)
    try:
        browser.open(view(*map_files))
        wide = browser.driver.execute_script(
            "const page = document.documentElement; return [page.scrollWidth, page.clientWidth]"
        )
        assert wide[0] <= wide[1]
        assert browser.find("#stage").size["width"] == wide[1]
        assert browser.find("#cards li").size["width"] <= wide[1]
    finally:
        browser.driver.set_window_size(1400, 900)


def test_every_control_has_a_name(map_files, browser):
    browser.open(view(*map_files))
    nameless = [
        element.get_attribute("outerHTML")
        for element in browser.all("button, input, canvas, [role]")
        if element.is_displayed() and not element.accessible_name and element.get_attribute("role") != "status"
    ]
    assert nameless == []
