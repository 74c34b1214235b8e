"""The image store in an S3 bucket."""
