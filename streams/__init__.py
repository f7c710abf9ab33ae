"""The shell: Kafka, Faust, Redis and Prometheus around the pure core in `attribution`."""
