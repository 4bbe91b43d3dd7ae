"""A run trained again, from its beginning or from one of its states, without a change to its folder."""
