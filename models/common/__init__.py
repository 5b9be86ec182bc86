"""What the networks share."""
