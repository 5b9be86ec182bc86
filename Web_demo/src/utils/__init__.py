"""The command line of the demo, and what its pages draw and read."""
