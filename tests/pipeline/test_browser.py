"""The pages in a real browser: nothing is fetched, nothing complained about, nothing sticks out on a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.reporting.page import STYLE, to_html
from pipeline.tables.page import build_page
from pipeline.tables.published import read_claims
from pipeline.tables.runs import kept_runs
from pipeline.tables.written import Results
from tests.pipeline.browser import CHROMIUM, Browser, browser
from tests.pipeline.kept_runs import keep_run

PROJECT = Path(__file__).parents[2]
FPS = {"xeon-2-threads": {"torch_fp32_64x128_b1": 30.0, "openvino_bf16_64x128_b1": 90.0}}
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: apt-get install chromium")


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page over two networks, one with three seeds, and one verdict."""
    folder = tmp_path_factory.mktemp("results")
    for seed, score in ((1, 74.0), (2, 75.1), (3, 73.2)):
        keep_run(folder, seed=seed, miou={"ss": score, "msf": score + 1}, fps=FPS)
    keep_run(folder, "stdc1", miou={"ss": 70.0}, override={"iterations": 200}, fps=FPS, busy=True)
    path = folder / "index.html"
    path.write_text(to_html(build_page(Results(kept_runs(folder), read_claims()))), encoding="utf-8")
    return path


@pytest.fixture(params=["report", "index", "committed index"])
def page(request: pytest.FixtureRequest, reported: Path, index: Path) -> Path:
    report = reported / "work/report/report.html"
    return {"report": report, "index": index, "committed index": PROJECT / "docs/results/index.html"}[request.param]


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_fetches_nothing_complains_of_nothing_and_fits(tab: Browser, page: Path, width: int, dark: bool) -> None:
    measured = tab.open(page, width, dark=dark)
    assert tab.seen.requests == [] and tab.seen.complaints == []
    assert measured == {"page": width, "window": width, "out": []}
    tab.run("document.querySelectorAll('details').forEach((folded) => folded.open = true)")
    assert tab.run("document.documentElement.scrollWidth") == width
    assert tab.run("document.querySelectorAll('section').length") >= 5
    assert tab.run("[...document.querySelectorAll('nav a')].every((a) => document.querySelector(a.hash))")
    brightness = tab.run("Math.max(...getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number))")
    assert brightness < 64 if dark else brightness == 255


@pytest.mark.slow
@needs_browser
def test_the_browser_would_notice(tab: Browser, tmp_path: Path) -> None:
    path = tmp_path / "bad.html"
    wide = '<div style="width:900px">x</div><div style="overflow:auto"><div style="width:900px">fine</div></div>'
    view = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    path.write_text(f'{view}{wide}<img src="missing.png"><script>console.error("oh")</script>')
    measured = tab.open(path, 390)
    assert len(measured["out"]) == 1 and measured["page"] >= 900
    assert len(tab.seen.requests) == 1 and any("oh" in text for text in tab.seen.complaints)


@pytest.mark.slow
@needs_browser
def test_the_slider_wipes_from_photograph_to_difference(tab: Browser, reported: Path) -> None:
    tab.open(reported / "work/report/report.html", 390)
    assert tab.run("document.querySelectorAll('.live input[type=range]').length") == 6
    layers = "[...document.querySelector('.live').querySelectorAll('figure')]"

    def hidden(place: float) -> list[float]:
        """How many per cent of each picture are hidden from the right."""
        move = f"s = document.querySelector('input'); s.value = {place}; s.dispatchEvent(new Event('input'))"
        tab.run(f"(() => {{ let {move} }})()")
        return [
            float((re.search(r"([\d.]+)%", clip) or [0, 0])[1])
            for clip in tab.run(f"{layers}.map((layer) => getComputedStyle(layer).clipPath)")
        ]

    assert hidden(0) == [0, 100, 100, 100]
    assert hidden(1.5) == pytest.approx([0, 0, 50, 100], abs=0.1)
    assert hidden(3) == [0, 0, 0, 0]
    tab.run("document.querySelectorAll('.live button')[1].click()")
    assert tab.run("document.querySelector('.live input').value") == "1"
    assert tab.run("document.querySelector('.live input').ariaValueText") == "truth"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(scheme: str) -> None:
    blocks = re.findall(r":root \{(.*?)\}", STYLE.read_text(encoding="utf-8"))
    colors = dict(re.findall(r"--([\w-]+): (#\w+)", blocks[scheme == "dark"]))
    pairs = [("ink", "page"), ("soft", "page"), ("link", "page"), ("soft", "fill"), ("ink", "warn-fill")]
    assert {pair: round(contrast(*(colors[name] for name in pair)), 1) for pair in pairs if
            contrast(*(colors[name] for name in pair)) < 4.5} == {}  # fmt: skip


def contrast(first: str, second: str) -> float:
    """The ratio of WCAG 2.2, 1 to 21; text should have 4.5."""
    low, high = sorted(luminance(color) for color in (first, second))
    return (high + 0.05) / (low + 0.05)


def luminance(color: str) -> float:
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    shares = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
