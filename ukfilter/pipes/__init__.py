"""Many guests, in trio: guests as async context managers, pipelines, progress.

Nothing is imported here: `ukfilter/__init__.py` has the public names, each found when it is first used.
"""
