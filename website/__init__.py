"""How the pages of docs/ become a site, and the pages that are made from the code."""
