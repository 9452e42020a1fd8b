"""One file a command: its help, as the module's docstring, and `main`, which takes the words of the command line."""
