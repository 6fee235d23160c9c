"""The two forms of the page, and how numbers are written on it."""

from __future__ import annotations

from pipeline.reporting import page, words


def test_text_from_outside_cannot_break_the_page() -> None:
    row = [page.Cell("<b>|", (1, 2, 3)), "`a<b`"]
    shown = page.Page("<title>", "", [page.Section("s", [page.Table(("x", "y"), [row], "lr")])])
    html = page.to_html(shown)
    assert "&lt;b&gt;|" in html and "<code>a&lt;b</code>" in html and "<title>&lt;title&gt;" in html
    assert "| <b>\\| | `a<b` |" in page.to_markdown(shown)


def test_numbers_as_people_write_them() -> None:
    assert [words.digits(value) for value in (1234.5, 12.3456, 0.9, 0, None)] == ["1230", "12.3", "0.900", "0.00", "–"]
    assert [words.duration(seconds) for seconds in (9.5, 432, 3720)] == ["9.5 s", "7 min 12 s", "1 h 02 min"]
    assert [words.size(value) for value in ([512, 1024], 32, None)] == ["512×1024", "32×32", "–"]
    assert dict(words.flat({"a": {"b": 1}, "c": {}})) == {"a.b": 1, "c": {}}
