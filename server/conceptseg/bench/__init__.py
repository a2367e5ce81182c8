"""Benchmarks as a command: throughput against the bare encoder, growth with the slide, peers."""
