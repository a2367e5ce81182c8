"""The only orchestration of the core."""
