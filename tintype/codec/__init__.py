"""The only translation between the domain and protobuf."""
