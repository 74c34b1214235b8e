"""What every service runs on: settings, logs, the gRPC server, the journal of images and the worker's loop."""
