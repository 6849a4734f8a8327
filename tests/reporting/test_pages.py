"""Pages that need nothing but themselves."""

from html.parser import HTMLParser

from geohp.reporting import pages as html
from geohp.reporting.pages import Markup, element, join, markup


class Balanced(HTMLParser):
    """Fails where an end tag does not fit."""

    def __init__(self):
        super().__init__()
        self.open, self.texts = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def parse(page):
    parser = Balanced()
    parser.feed(page)
    parser.close()
    assert not parser.open
    return "".join(parser.texts)


def test_texts_are_escaped_once_and_markup_is_not():
    assert markup("<b> & 'c'") == "&lt;b&gt; &amp; &#x27;c&#x27;"
    assert markup(markup("<b>")) == "&lt;b&gt;"
    assert join(["<", Markup("<br>")]) == "&lt;<br>"
    assert element("p", "a < b", class_="x", title='"') == '<p class="x" title="&quot;">a &lt; b</p>'


def test_a_page_is_well_formed_whatever_its_texts():
    evil = "</table><script>alert(1)</script> 'x' \"y\" &"
    parts = [
        evil,
        html.picture(b"\x89PNG", evil, evil),
        html.table([evil, "b"], [[evil, "1"], [element("i", evil), "2"]], kinds=[evil]),
        html.swatch("#aabbcc"),
    ]
    page = html.page(evil, parts)
    assert "<script>" not in page
    assert parse(page).count("alert(1)") >= 5
    assert page.startswith("<!doctype html>")


def test_pictures_are_inside_from_bytes_and_from_files(tmp_path):
    (tmp_path / "a.png").write_bytes(b"picture")
    assert html.picture(b"picture", "a") == html.picture(tmp_path / "a.png", "a")
    assert 'src="data:image/png;base64,cGljdHVyZQ=="' in html.picture(b"picture", "a")
    assert "figcaption" not in html.picture(b"picture", "a")


def test_columns_of_words_and_of_figures_are_told_apart():
    found = html.table(["name", "1"], [["a", "2"]])
    assert '<th class="words">name</th><th>1</th>' in found
    assert '<td class="words">a</td><td>2</td>' in found
    assert "thead" not in html.table([], [["a"]])
