"""The conceptseg command."""
