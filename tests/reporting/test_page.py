"""run report: the content of the page, and that nothing from an untrusted run folder is executed in it."""

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("bokeh", reason="run report needs the extra [report]")

from runner.commands.report import main as report
from runner.compaction.ways import FEED_FORWARD, WHOLE
from runner.errors import ConfigError
from runner.files import write_rows
from runner.reporting.page import contents
from runner.reporting.page.collect import collect
from runner.reporting.page.plots import Plots
from runner.reporting.page.write import page
from runner.runs import Run, metrics_columns

Make = Callable[..., Any]

BAD = "</script><script>acted()</script><img src=x onerror=acted()>\"'><b>γ"


class Read(HTMLParser):
    """The elements of a page with their attributes, its texts, and its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self._script = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._script = tag == "script"
        if self._script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._script = False

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts[-1] += data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)


@pytest.fixture
def learned(make_run: Make, row: Make) -> Callable[..., Run]:
    """A run with everything that a folder can contain."""

    def make(dropout: str = "none", accuracy: float = 0.9, metric: str = "accuracy", **options: Any) -> Run:
        costs = {"flops": 1e6, "parameters": 1e4}
        grid = [(s, norm) for s in (0.0, 0.5, 0.99) for norm in ("kept", "recalibrated")]
        rows = [row(s, accuracy - s / 2, batch_norm=norm, bytes=4e4 * (1 - s), **costs) for s, norm in grid]
        rows = [{metric if name == "accuracy" else name: value for name, value in one.items()} for one in rows]
        run: Run = make_run(rows, dropout, metrics=[metric], **options)
        metrics = metrics_columns([metric])
        write_rows(run.metrics_file, metrics, [dict.fromkeys(metrics, 0.5) | {"epoch": e} for e in (1, 2)])
        write_rows(
            run.folder / "predictions.csv",
            ["index", "label", "predicted"],
            [{"index": i, "label": i % 3, "predicted": i % 2} for i in range(12)],
        )
        certify(run, "eager")
        return run

    return make


def certify(run: Run, way: str) -> None:
    folder = run.folder / "compact" / "weight-0.5"
    folder.mkdir(parents=True)
    (folder / "certificate.md").write_text(f"## {way}\n")
    rows = [
        {"network": n, "way": way, "part": part, "batch": 1, "unit": "images", "milliseconds": ms}
        for n, part, ms in (
            ("dense", WHOLE, 4.0),
            ("compact", WHOLE, 2.0),
            ("compact", WHOLE, 1.0),
            ("compact", FEED_FORWARD, 0.5),
        )
    ]
    write_rows(folder / "certificate.csv", list(rows[0]), rows)


@pytest.fixture
def hostile(learned: Make, make_run: Make, tmp_path: Path) -> list[Run]:
    """Untrusted runs: every text contains `BAD`, and the folder's name contains every special character."""
    where = tmp_path / "a'\"><img src=x onerror=acted()><script>acted()<" / "script>"
    for_all = {"data.name": BAD, "schedule.note": BAD, "model.name": BAD}
    runs = [learned(metric=BAD, folder=where / "a", **for_all)]
    runs += [learned("targeted", metric="$$x^2$$", folder=where / "b", **{"dropout.alpha": BAD})]
    for run in runs:
        about = {"label": BAD, "percent": False, "higher_is_better": True}
        run.write_status(note=BAD, command=BAD, device=BAD, git=BAD, versions={BAD: BAD}, seconds=BAD, started=[BAD])
        run.write_status(metrics=[{"name": BAD, "decimals": BAD, **about}, {"name": "$$x^2$$", **about}])
        run.samples_file.write_text(BAD)
        (run.folder / "compact" / "weight-0.5" / "certificate.md").unlink()
        (run.folder / "compact" / "weight-0.5" / "certificate.csv").unlink()
        (run.folder / "compact" / "weight-0.5").rmdir()
        certify(run, BAD)
        (run.folder / "predictions.csv").rename(run.folder / "predictions-<script>acted()<.csv")
    failed = make_run(state="failed", seed=1, folder=where / "c")
    failed.write_status(error=f"UserError: {BAD}")
    failed.log_file.write_text(f"line\n{BAD}\n")
    damaged = make_run(seed=2, folder=where / "d")
    damaged.status_file.write_text(json.dumps(BAD))
    return [*runs, failed, damaged]


def policy_of(read: Read) -> str:
    (meta,) = [a for tag, a in read.elements if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    return str(meta["content"])


def test_nothing_of_a_strangers_folder_is_markup(hostile: list[Run]) -> None:
    text = page(collect(hostile), BAD)
    read = Read(text)
    allowed = {
        *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "nav", "a", "noscript", "div", "details"),
        *("summary", "dl", "dt", "dd", "span", "pre", "script"),
    }
    assert {tag for tag, _ in read.elements} <= allowed
    attributes = {name for _, given in read.elements for name in given}
    assert attributes <= {"lang", "charset", "http-equiv", "content", "name", "id", "class", "style", "href", "open",
                          "data-root-id"}  # fmt: skip
    links = [given["href"] for tag, given in read.elements if tag == "a"]
    assert links and all(re.fullmatch(r"#\w+", str(link)) for link in links)
    # Each script is one of the package's, character by character, and no text ends a script early.
    assert len(read.scripts) == 5
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in read.scripts]
    policy = policy_of(read)
    assert re.findall("'sha256-([^']+)'", policy) == hashes
    assert policy.startswith("default-src 'none'; script-src ")
    assert "unsafe" not in policy.replace("style-src 'unsafe-inline'", "")
    assert "acted()</script" not in read.scripts[-1]
    # Texts appear as they were written: title, note, error, log, samples, certificate.
    assert read.text.count(BAD) > 12
    assert f"UserError: {BAD}" in read.text


def test_headings_of_tables_are_escaped(hostile: list[Run]) -> None:
    """The table interprets headings as HTML, but cells and legends as text."""
    titles = [column.title for column in contents.runs_table(collect(hostile)).columns]
    assert any("&lt;img" in title for title in titles)
    assert not any("<" in title for title in titles)


def test_what_ran_what_it_reached_and_what_failed(learned: Make, make_run: Make) -> None:
    runs = [
        learned(),
        learned(seed=1, accuracy=0.8),
        learned("targeted", **{"dropout.alpha": 0.5}),
        learned("targeted"),
    ]
    runs[0].write_status(device="a machine", git="1234567", command="run train", note="the first")
    failed = make_run(state="failed", seed=9)
    failed.write_status(error="UserError: the loss is not finite")
    failed.log_file.write_text("".join(f"line {n}\n" for n in range(100)))
    damaged = learned("ramping")
    damaged.pruning_file.write_text("a,b\n1,2\n")
    collected = collect([*runs, failed, damaged])
    assert list(collected.columns) == ["none", "ramping", "targeted alpha=0.5", "targeted alpha=0.66"]
    assert [info.state for info in collected.runs] == [*["finished"] * 4, "failed", "damaged"]
    shown = shown_by(contents.runs_table(collected))
    assert shown["column"][:3] == ["none", "none", "targeted alpha=0.5"]
    assert shown["dropout.alpha"] == ["", "", "0.5", "0.66", "", "0.99"]
    assert list(shown["test accuracy (%), unpruned"][:2]) == pytest.approx([90, 80])
    assert shown["note"][0] == "the first" and shown["machine"][0] == "a machine" and shown["commit"][0] == "1234567"
    text = page(collected, "Runs")
    assert len(text) < 2_300_000, "so that 50 runs with a full sweep stay far below 5 MB"
    read = Read(text)
    for text in ("UserError: the loss is not finite", "line 99", "pruning.csv is damaged", "Common to all runs"):
        assert text in read.text, text
    assert "line 79\n" not in read.text


def shown_by(table: Any) -> Mapping[str, Any]:
    return {column.title: table.source.data[column.field] for column in table.columns}


def test_results_are_means_over_seeds(learned: Make) -> None:
    collected = collect([learned(), learned(seed=1, accuracy=0.8)])
    made = contents.tables_of(collected)
    assert [one.metric.name for one in made] == ["accuracy", "loss"]
    shown = shown_by(contents.results_table(made))
    assert shown["metric"][0] == "test accuracy (%)"
    assert list(shown["sparsity %"][:3]) == pytest.approx([0, 50, 99])
    assert list(shown["mean"][:3]) == pytest.approx([85, 60, 35.5])
    assert list(shown["seeds"][:3]) == [2, 2, 2]


def test_costs_have_latency_where_there_are_certificates(learned: Make) -> None:
    collected = collect([learned()])
    tabs = contents.pareto_plots(collected, Plots(list(collected.columns)))
    assert [tab.title for tab in tabs.tabs] == ["bytes", "flops", "latency, batch 1", "parameters"]
    marks = tabs.tabs[2].child.renderers[-1].data_source.data
    points = dict(zip(marks["at"], zip(marks["x"], marks["y"], strict=True), strict=True))
    assert points["unpruned, eager"] == pytest.approx((4, 90))
    assert points["weight-0.5, eager"] == pytest.approx((1, 65)), "the fastest way, and what the sweep says"


def test_a_click_on_a_name_hides_its_column_in_all_plots(learned: Make) -> None:
    collected = collect([learned(), learned("targeted")])
    plots = Plots(list(collected.columns))
    curves = contents.sparsity_plots(contents.tables_of(collected), plots)
    plots.legends()
    drawn = [panel.child for metric in curves.tabs for panel in metric.child.tabs]
    assert [tab.title for tab in curves.tabs] == ["test accuracy (%)", "test loss"]
    assert len(drawn) == 4, "BatchNorm kept and recalibrated"
    for plot in drawn:
        (legend,) = plot.legend
        assert (legend.click_policy, [item.label.value for item in legend.items]) == ("hide", ["none", "targeted"])
        hidden = {one.id for one in legend.items[0].renderers}
        assert all(any(one.id in hidden for one in other.renderers) for other in drawn)
        colours = {one.glyph.line_color for item in legend.items for one in item.renderers}
        assert colours == {"#000000", "#0072B2"}


def test_the_command_writes_one_file(learned: Make, tmp_path: Path, capsys, monkeypatch) -> None:
    learned()
    monkeypatch.chdir(tmp_path)
    assert report(["outputs"], ["out=here/a.html", "title=Mine"]) == 0
    assert capsys.readouterr().out == "here/a.html\n"
    assert [path.name for path in Path("here").iterdir()] == ["a.html"]
    read = Read(Path("here/a.html").read_text())
    assert "Mine" in read.texts
    # The file is self-contained: no element loads anything.
    assert not [a for tag, a in read.elements if tag in ("img", "link", "iframe", "object") or "src" in a]


@pytest.mark.slow
def test_fifty_unlike_runs_would_take_less_than_5_megabytes(learned: Make) -> None:
    """Each with its own options, sweep, learning curves and certificate. Drawing all fifty would take long."""
    runs = [learned("targeted", seed=3, **{"dropout.alpha": 0.01 * i}) for i in range(8)]
    few, more = (len(page(collect(runs[:n]), "unlike").encode()) for n in (2, 8))
    assert few < more and few + 48 * (more - few) / 6 < 5_000_000


def test_bad_input_is_one_line(learned: Make, tmp_path: Path, monkeypatch) -> None:
    learned()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"out=outputs: expected a file name that ends in \.html"):
        report(["outputs"], ["out=outputs"])
    monkeypatch.setattr("runner.commands.report.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"run report needs bokeh and jinja2: pip install '\.\[report\]'"):
        report(["outputs"], [])
    assert not list(tmp_path.glob("*.html"))


@pytest.fixture
def browser() -> Iterator[Any]:
    """A headless Chromium, if the machine has one."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra [browser]")
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip(f"needs a browser: none of {', '.join(names)} is installed")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


def opened(browser: Any, path: Path, width: int) -> tuple[Any, list[str]]:
    """Return the page after everything has been drawn, and the errors on the console."""
    tab, errors = browser.new_page(viewport={"width": width, "height": 900}), []
    tab.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.add_init_script("window.acted = () => { window.bad = true }")
    tab.on("request", lambda request: errors.append(request.url) if request.url != path.as_uri() else None)
    tab.goto(path.as_uri(), timeout=120_000)
    for _ in range(600):
        if tab.evaluate("Bokeh.documents.length > 0 && Bokeh.documents[0].is_idle"):
            return tab, errors
        tab.wait_for_timeout(100)
    raise AssertionError("the page is never idle")


# The position on the screen of a marker in the first plot that has any.
FIRST_MARK = """() => {
    for (const plot of Bokeh.documents[0]._all_models.values()) {
        const view = plot.type == "Figure" ? Bokeh.index.find_one(plot) : null
        const drawn = view == null ? null : plot.renderers.find(one => one.glyph.type == "Scatter" && one.visible)
        if (drawn == null || view.el.getBoundingClientRect().width == 0) continue
        view.el.scrollIntoView({block: "center"})
        const {left, top} = view.canvas_view.el.getBoundingClientRect()
        const {x, y} = drawn.data_source.data
        return [left + view.frame.x_scale.compute(x[1]), top + view.frame.y_scale.compute(y[1])]
    }
}"""


@pytest.mark.timeout(600)
def test_in_a_browser(browser: Any, hostile: list[Run], learned: Make, tmp_path: Path) -> None:
    """It draws, sorts and toggles, on a desktop and on a phone; no text is executed, and the console is empty."""
    file = tmp_path / "report.html"
    runs = [learned(seed=5, accuracy=0.8), learned("targeted", seed=3), learned("ramping", seed=4)]
    collected = collect([*runs, *hostile])
    file.write_text(page(collected, BAD))
    phone, errors = opened(browser, file, 390)
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing to the right of the screen"
    assert errors == []
    desk, errors = opened(browser, file, 1200)
    assert desk.locator("#runs ~ .part").first.locator(".slick-row").count() >= 6

    def seeds() -> list[str]:
        rows = desk.locator("#runs ~ .part").first.locator(".slick-row")
        by_place = sorted(
            (row.bounding_box()["y"], row.locator(".slick-cell").nth(1).inner_text()) for row in rows.all()
        )
        return [seed for _, seed in by_place]

    before = seeds()
    heading = desk.locator("#runs ~ .part").first.locator(".slick-header-column", has_text="seed")
    heading.click()
    assert seeds() == sorted(before) != before
    heading.click()
    assert seeds() == sorted(before, reverse=True)

    shown = """() => [...Bokeh.documents[0]._all_models.values()].filter(one => one.type == "Legend")
        .flatMap(one => one.items).filter(item => item.label.value == NAME).flatMap(item => item.renderers)
        .map(drawn => drawn.visible)""".replace("NAME", json.dumps(collected.names[runs[0]]))
    assert set(desk.evaluate(shown)) == {True}
    desk.locator(".bk-Legend").first.evaluate("it => it.scrollIntoView({block: 'center'})")
    legend = desk.locator(".bk-Legend").first.bounding_box()
    desk.mouse.click(legend["x"] + 40, legend["y"] + 14)
    assert set(desk.evaluate(shown)) == {False}
    desk.mouse.click(legend["x"] + 40, legend["y"] + 14)
    assert set(desk.evaluate(shown)) == {True}

    x, y = desk.evaluate(FIRST_MARK)
    desk.mouse.move(x - 5, y)
    desk.mouse.move(x, y)
    desk.wait_for_timeout(300)
    shown = " ".join(desk.locator(".bk-tooltip-content").all_inner_texts())
    assert all(word in shown for word in ("column", "sparsity", "value", "seeds")), shown

    tab = desk.locator("#curves ~ .part .bk-tab", has_text="recalibrated").first
    tab.click()
    assert "bk-active" in tab.get_attribute("class")

    assert errors == []
    assert desk.evaluate("window.bad") is None
