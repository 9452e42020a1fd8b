"""The commands, one per file. The module's docstring is the help text, and `main` receives the command line."""
