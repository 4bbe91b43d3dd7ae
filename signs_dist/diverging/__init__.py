"""Two runs that train side by side, step by step, until their bits differ, for the command diverge."""
