"""Tables, figures and lists of runs."""
