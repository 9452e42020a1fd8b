"""The training loop, its callbacks and loggers, schedules and checkpoints."""
