"""Tables, figures and listings of runs."""
