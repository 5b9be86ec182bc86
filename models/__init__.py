"""Networks, and what runs them."""
