"""The commands, one per module. A module's docstring is the help text; its `main` receives the parsed arguments."""
