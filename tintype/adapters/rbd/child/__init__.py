"""The process beside the service that calls librbd: standard library, ``rados`` and ``rbd`` only.

It runs in the system's interpreter, which the bindings are built for, and can be killed when a call hangs: see
docs/adr/0021. Whatever a Python of 3.9 does not know must not stand here.
"""
