"""The benchmarks of `make bench-…`: the service against alternatives, on this machine."""
