"""Write the report page. Its template escapes all text, its scripts are allowed by hash, and it is self-contained."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from bokeh.document import Document
from bokeh.embed import components
from bokeh.resources import Resources
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from runner import __version__
from runner.config.rules import show
from runner.files import write_text
from runner.reporting.page import contents
from runner.reporting.page.collect import Collected
from runner.reporting.page.plots import Plots, confusion
from runner.runs import now

_PARTS = ["bokeh", "bokeh-widgets", "bokeh-tables"]


def write_page(collected: Collected, path: Path, title: str = "Runs") -> None:
    """Write the page as one self-contained HTML file."""
    write_text(path, page(collected, title))


def page(collected: Collected, title: str) -> str:
    """Return the HTML of the page.

    A content security policy allows only the page's own scripts, by hash, and forbids `eval` and external resources,
    even if text from a run folder ends up in an unexpected place.
    """
    plots = Plots(list(collected.columns))
    made = contents.tables_of(collected)
    parts = {
        "runs": contents.runs_table(collected),
        "curves": contents.sparsity_plots(made, plots),
        "pareto": contents.pareto_plots(collected, plots),
        "learning": contents.learning_plots(collected, plots),
        "results": contents.results_table(made),
        "certificates": contents.certificates_table(collected),
    }
    plots.legends()
    matrices = [(info, name, confusion(counts)) for info in collected.runs for name, counts in info.predictions]
    models = {name: model for name, model in parts.items() if model is not None}
    models |= {f"confusion{index}": plot for index, (_, _, plot) in enumerate(matrices)}
    document = Document()
    with document.models.freeze():  # otherwise Bokeh traverses all plots again for each one added
        for model in models.values():
            document.add_root(model)
    script, divs = components(models, wrap_script=False)
    scripts = [*Resources(mode="inline", components=_PARTS, log_level="warn", minified=True).js_raw, script]
    environment = Environment(
        autoescape=True, loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined
    )
    states = [info.state for info in collected.runs]
    return environment.get_template("page.html").render(
        title=title,
        made=f"run {__version__}, {now()}",
        policy=_policy(scripts),
        scripts=scripts,
        divs=divs,
        runs=collected.runs,
        names=collected.names,
        states={state: states.count(state) for state in sorted(set(states))},
        common={name: show(value) for name, value in collected.common.items()},
        unfinished=[info for info in collected.runs if info.state != "finished"],
        matrices=[(info, name, divs[f"confusion{i}"]) for i, (info, name, _) in enumerate(matrices)],
    )


def _policy(scripts: Sequence[str]) -> str:
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    rest = "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src {allowed}; {rest}"
