"""The image store in volumes of OpenStack Block Storage (Cinder)."""
