"""A self-contained HTML page about runs, their results and their failures; it needs no network and no server."""
