"""The quickstart: its stages as one list of small objects (`stages`), what they run on (`plan`), and what comes of it (`report`)."""
