"""The importer: brings the bytes of images in, hands them out, and takes away what nobody wants any more."""
