"""What crosses a wire, and configuration. Imports nothing of the project."""
