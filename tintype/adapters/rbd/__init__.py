"""The image store in a pool of Ceph block devices (RBD)."""
