"""The ports in memory: for tests, and as the shortest statement of what a port promises."""
