"""The two forms of the page, and how numbers are written on it."""

from __future__ import annotations

from pipeline.reporting import markdown, page, words

WHISKER = page.Cell("50.00", bar=0.5, whisker=(0.4, 0.65))


def test_text_from_outside_cannot_break_the_page() -> None:
    row = [page.Cell("<b>|", (1, 2, 3)), "`a<b`"]
    shown = page.Page("<title>", "", [page.Section("s", [page.Table(("x", "y"), [row], "lr")])])
    html = page.to_html(shown)
    assert "&lt;b&gt;|" in html and "<code>a&lt;b</code>" in html and "<title>&lt;title&gt;" in html
    assert "| <b>\\| | `a<b` |" in markdown.to_markdown(shown)


def test_every_section_says_what_makes_its_numbers_and_can_be_jumped_to() -> None:
    shown = page.Page("p", "", [page.Section("Where to?", [page.Text("x")], "dvc repro <train>")])
    html = page.to_html(shown)
    assert '<a href="#where-to-">' in html and '<section id="where-to-">' in html
    assert "<code>dvc repro &lt;train&gt;</code>" in html
    assert "## Where to?\n\n`dvc repro <train>`\n\nx" in markdown.to_markdown(shown)


def test_a_whisker_lies_on_its_bar() -> None:
    html = page.to_html(page.Page("p", "", [page.Section("s", [page.Table(("x",), [[WHISKER]], "l")])]))
    assert '<i style="width:50.0%;"></i><b style="left:40.0%;width:25.0%"></b>' in html


def test_one_picture_alone_has_no_slider_and_the_page_no_script() -> None:
    pictures = {"slides": ("data:a", "data:b"), "": ("no licence", "data:b")}
    for kind, row in pictures.items():
        gallery = page.Gallery("g.png", ("photograph", "prediction"), [page.Example("c", row)], b"", "")
        html = page.to_html(page.Page("p", "", [page.Section("s", [gallery])]))
        assert ('<div class="slides"' in html) == ("<script>" in html) == bool(kind)


def test_numbers_as_people_write_them() -> None:
    assert [words.digits(value) for value in (1234.5, 12.3456, 0.9, 0, None)] == ["1230", "12.3", "0.900", "0.00", "–"]
    assert [words.duration(seconds) for seconds in (9.5, 432, 3720)] == ["9.5 s", "7 min 12 s", "1 h 02 min"]
    assert [words.size(value) for value in ([512, 1024], 32, None)] == ["512×1024", "32×32", "–"]
    assert dict(words.flat({"a": {"b": 1}, "c": {}})) == {"a.b": 1, "c": {}}
