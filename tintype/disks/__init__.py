"""The guest's disk inside an image: reading it, whatever the format, and proving that it is the same disk.

- :func:`tintype.disks.opening.open_disk` opens an image of a known format as a :class:`tintype.disks.disk.Disk`;
- :func:`tintype.disks.guest_digest.digest_of` computes the guest-disk digest of an open disk, and
  :class:`tintype.disks.guest_digest.GuestDigester` that of a raw disk while its bytes pass;
- :func:`tintype.disks.to_raw.write_raw` writes a disk into a raw file, and digests it in the same pass.
"""

from __future__ import annotations
