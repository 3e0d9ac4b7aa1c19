"""Systems built on the lab. A study imports no other study, and the lab imports none."""
