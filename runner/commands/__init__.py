"""The commands, one file each: the docstring of the module is the help text, and `main` takes the command line."""
