"""What a person sees and types: the screen, and what all commands share."""
