"""Unikernels as files: a mount where writing `NAME/in` and reading `NAME/out` drives a guest.

Pure: job, spool, status lines and verbs (job.py, spool.py), what is mounted (config.py), the tree (tree.py).
Edges: a guest's run (run.py), FUSE's requests (operations.py), interrupts (interrupt.py), life (mount.py).
"""
