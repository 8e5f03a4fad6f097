"""The demo: the main job on real processes and the sandbox. The tests and benchmarks use its processes too."""
