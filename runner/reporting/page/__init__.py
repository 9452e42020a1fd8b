"""A self-contained HTML page about runs, their results and their failures, which needs no network and no server."""
