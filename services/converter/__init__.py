"""The converter: brings an imported disk into the format that the deployment prefers."""
