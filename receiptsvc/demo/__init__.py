"""The main job on real processes and the sandbox."""
