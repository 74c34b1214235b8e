"""The image store in containers of OpenStack Object Storage (Swift)."""
