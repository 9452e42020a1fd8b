"""A network trained with global scope is swept, listed and shown with that scope."""

from runner.files import read_rows


def test_the_variants_scope_is_that_of_its_sweep(train, call, tiny):
    words = ("dropout=targeted", "dropout.scope=global")
    run = train(*words)

    def scopes():
        return {row["scope"] for row in read_rows(run.pruning_file) if float(row["floor"])}

    assert (scopes(), run.status()["scope"]) == ({"global"}, "global")
    assert "already finished" in call("train", *tiny, *words).out
    shown = call("table", "outputs/smoke", "outputs=outputs/smoke").out
    assert "50 % |" in shown and "75 % of its weights pruned, its floor" in shown
    assert "50%" in call("list", "runs", "outputs/smoke").out
    assert call("prune", str(run.folder), "prune.scope=layer", "prune.sparsities=[0.5]").code == 0
    assert scopes() == {"global", "layer"}
