"""Commands by which operators steer the fleet: nodes taken out and let back, and the policy."""
