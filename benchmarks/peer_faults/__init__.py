"""The scenarios of benchmarks/faults_peers.py, and the drivers that run them on each peer."""
