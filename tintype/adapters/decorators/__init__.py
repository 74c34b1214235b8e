"""What every store gets around it, whatever its kind: each module adds one thing to an image store, and is a store."""
