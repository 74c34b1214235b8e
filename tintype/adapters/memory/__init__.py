"""The ports in memory, for tests and trials: the same promises, kept until the process ends."""
