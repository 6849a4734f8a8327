"""Pages that need nothing but themselves."""

import math
from html.parser import HTMLParser
from types import SimpleNamespace as It

import pytest
from jinja2 import UndefinedError

from geohp.classes import LandCoverClass
from geohp.evaluation.tables import ScoreRow
from geohp.reporting.pages import Picture, listed, page_templates, render_page

EVIL = "</table><script>alert(1)</script> 'x' \"y\" &"


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


def macro(call, **content):
    source = '{% from "macros.html.j2" import figure, section, swatch %}' + call
    return page_templates().from_string(source).render(content)


def evaluation_page(text, **changes):
    content = {
        "title": text,
        "summary": text,
        "scores": [ScoreRow(text, ("1",) * 4, text), ScoreRow(text, ("2",) * 4, text, published=True)],
        "columns": [text],
        "classes": [(LandCoverClass(0, text, "#aabbcc"), "50.0", ["3"])],
        "notes": [text],
        "pictures": [Picture(b"\x89PNG", text, text)],
    }
    return render_page("evaluation.html.j2", **{**content, **changes})


def test_texts_are_escaped_once_and_markup_is_not():
    assert macro("{{ text }}", text="<b> & 'c'") == "&lt;b&gt; &amp; &#39;c&#39;"
    assert '<p title="&#34;">a &lt; b</p>' in macro(
        '{% call section("x", "y") %}<p title="{{ quote }}">{{ text }}</p>{% endcall %}', quote='"', text="a < b"
    )


def test_a_page_is_well_formed_whatever_its_texts():
    page = evaluation_page(EVIL)
    assert "<script>" not in page
    assert parse(page).count("alert(1)") >= 9
    assert page.startswith("<!doctype html>")
    assert 'class="published first"' in page


def run_page(text):
    picture = Picture(b"\x89PNG", text, text)
    cluster = It(name=text, colour=text, share=97.0, nearest=text, cosine=0.5)
    anchor = It(name=text, colour=text, agnostic=1, specific=2, both=1, pictures=[picture])
    shares = It(agnostic=0.5, specific=math.nan, chance=0.1)
    found = It(counted=9, alone=0.5, within=math.nan, clusters=shares, labels=shares)
    medians = {"median_agnostic": 1.0, "median_specific": 2.0}
    return render_page(
        "run.html.j2",
        **dict.fromkeys(("name", "method", "config"), text),
        **{name: [text] for name in ("warnings", "loss_terms")},
        **{name: [picture] for name in ("curves", "score_curves", "confusions")},
        facts=[(text, text)],
        never_specific=True,
        samples=[(picture, picture)],
        clusters=It(rows=[cluster], images=5, alike=1, bound=0.95, dominant=95.0, picture=picture),
        comparison=It(
            sentence=text,
            result=It(stability=90.0, edges=50.0, largest=40.0, vanished=0, accuracy=60.0, miou=None),
            kmeans=It(stability=80.0, edges=None, largest=30.0, vanished=1, accuracy=None, miou=None),
            edges_by_chance=20.0,
            **{"clusters": 3, "patches": 6000, "images": 9, "shown": 4},
        ),
        covers=True,
        sweep=picture,
        discovery=It(
            anchors=[anchor],
            patches=3,
            findings=found,
            affinities=[picture],
            left_out=[text],
            key=[(text, text)],
            **medians,
        ),
    )


def test_the_page_of_a_run_is_well_formed_whatever_its_texts():
    page = run_page(EVIL)
    assert "<script>" not in page
    assert parse(page).count("alert(1)") > 20
    text = parse(run_page("colour"))
    assert "colour takes 97 %: training collapsed." in text
    assert "Large covers are gathered here as they are on the map." in text
    assert "share the anchor's label in 50 % (task-agnostic), 10 % (of all patches)." in " ".join(text.split())
    assert "nan" not in text


def test_what_a_template_needs_has_to_be_given():
    with pytest.raises(UndefinedError, match="summary"):
        render_page("evaluation.html.j2", title="a")


def test_pictures_are_inside():
    assert 'src="data:image/png;base64,cGljdHVyZQ=="' in macro("{{ figure(it) }}", it=Picture(b"picture", "a"))
    assert "figcaption" not in macro("{{ figure(it) }}", it=Picture(b"picture", "a"))
    assert "<figcaption>c</figcaption>" in macro("{{ figure(it) }}", it=Picture(b"picture", "a", "c"))


def test_columns_of_words_and_of_figures_are_told_apart():
    page = evaluation_page("a")
    assert '<th class="words">class</th><th>share</th>' in page
    assert '<td class="words">a</td><td>1</td>' in page


def test_words_are_listed_as_in_a_sentence():
    assert [listed(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
