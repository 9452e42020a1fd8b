"""One file a command: in which order things happen."""
