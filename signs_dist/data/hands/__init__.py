"""Drawing hands that show 0 to 5."""
