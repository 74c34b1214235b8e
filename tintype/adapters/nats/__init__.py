"""NATS JetStream as the event log."""
