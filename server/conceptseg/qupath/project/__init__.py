"""QuPath projects without QuPath: what is in them, and how they are changed without losing anything.

Nothing here imports paquo. `conceptseg.qupath.project_writer` gives these modules a QuPath to work with.
"""
