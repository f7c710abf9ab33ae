"""Takes the pictures in docs/images of a demo that runs: `make pictures`."""
