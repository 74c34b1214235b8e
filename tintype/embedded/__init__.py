"""The whole of Tintype on one machine: a nats-server and one process per service, under a small supervisor."""
